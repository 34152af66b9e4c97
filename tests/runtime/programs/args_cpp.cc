// A program to trace: functions and classes of C++.
#include <cstdio>

namespace shop {

struct Base {
	int id = 3;
};

class Item : public Base {
public:
	Item(int price, const char *name) : price_(price), name_(name) {}
	__attribute__((noinline)) int cost(int count);
	__attribute__((noinline)) int cost(long count, int discount);

private:
	int price_;
	const char *name_;
	static int n_items;
};

int Item::n_items = 0;

int Item::cost(int count)
{
	n_items++;
	return price_ * count;
}

int Item::cost(long count, int discount)
{
	n_items++;
	return price_ * count - discount;
}

struct Owner {
	int number;
	~Owner() { total++; }
	static int total;
};

int Owner::total = 0;

template <typename T>
__attribute__((noinline)) T twice(const T &value)
{
	return value + value;
}

__attribute__((noinline)) int owned(Owner owner, const Item &item)
{
	return owner.number + item.id;
}

} // namespace shop

namespace stock {

// The constructor has two names, of the whole object and of a part of another.
struct Shelf {
	int length;
	Shelf(int length);
};

__attribute__((noinline)) Shelf::Shelf(int length) : length(length) {}

} // namespace stock

volatile long numbers_sum;

// The program in C has a function of this name with other parameters.
extern "C" __attribute__((noinline)) void numbers(unsigned long a, const shop::Item *b)
{
	numbers_sum += a + b->id;
}

int main()
{
	// A probe cannot read a page that was never touched.
	static char name[] = "?pple";
	name[0] = 'a';
	shop::Item item(5, name);
	int sum = item.cost(2) + item.cost(4L, 1);
	sum += shop::twice<int>(21) + shop::owned(shop::Owner{8}, item);
	numbers(1ul << 40, &item);
	sum += stock::Shelf(3).length;
	std::printf("%d\n", sum);
	return 0;
}
