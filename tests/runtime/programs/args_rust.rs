//! A program to trace: functions and types of Rust.

pub struct Order {
    pub count: u32,
    pub price: i64,
    pub code: [u8; 4],
}

pub enum Payment {
    Cash,
    Card { number: u32 },
}

pub mod desk {
    use super::{Order, Payment};

    #[inline(never)]
    pub fn take(order: &Order, payment: &Payment) -> i64 {
        let number = match payment {
            Payment::Cash => 0,
            Payment::Card { number } => *number,
        };
        std::hint::black_box(order.price * i64::from(order.count) + i64::from(number))
    }

    #[inline(never)]
    pub fn greet(name: &str, times: u8) -> usize {
        std::hint::black_box(name).len() * usize::from(std::hint::black_box(times))
    }
}

#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn plain(order: &Order, small: i16) -> i32 {
    std::hint::black_box(order.count as i32 + i32::from(small))
}

fn main() {
    let order = Order {
        count: 3,
        price: -100,
        code: *b"abcd",
    };
    let order = std::hint::black_box(order);
    let sum = desk::take(&order, &Payment::Card { number: 42 }) + desk::take(&order, &Payment::Cash);
    // A probe cannot read a page that was never touched.
    let name = std::hint::black_box(String::from("somebody"));
    let length = desk::greet(&name, 2);
    let plain = plain(&order, -7);
    std::process::exit(i32::from(sum == 0 && length == 0 && plain == 0));
}
