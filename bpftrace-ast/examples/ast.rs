//! Reads scripts and shows their trees (`dump`, `spans`), their canonical text (`fmt`), or only what is wrong with
//! them (`check`): `cargo run --example ast -- dump a.bt b.bt`.

use bpftrace_ast::diag::render::{Color, render_all};
use bpftrace_ast::dump::{Spans, dump};
use bpftrace_ast::source::SourceMap;

fn main() -> std::io::Result<()> {
    let mut args = std::env::args().skip(1);
    let what = args.next().unwrap_or_default();
    for path in args {
        let text = String::from_utf8_lossy(&std::fs::read(&path)?).into_owned();
        let mut map = SourceMap::new();
        let source = map.add(path, text);
        let (script, diagnostics) = bpftrace_ast::parse(source, &map);
        match what.as_str() {
            "dump" => print!("{}", dump(&script, Spans::Hidden)),
            "fmt" => print!("{}", bpftrace_ast::print::print(&script, &map)),
            "spans" => print!("{}", dump(&script, Spans::Shown)),
            _ => {}
        }
        eprint!("{}", render_all(&diagnostics, &map, Color::Never));
    }
    Ok(())
}
