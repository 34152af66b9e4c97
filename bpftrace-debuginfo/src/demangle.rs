//! Names of symbols as sources have them.

/// The name of a C++ or Rust function as its source has it; `None` when it is of neither. Rust names are
/// without the hash that makes them unique.
#[must_use]
pub fn demangle(name: &str, with_parameters: bool) -> Option<String> {
    if let Ok(rust) = rustc_demangle::try_demangle(name) {
        return Some(format!("{rust:#}"));
    }
    let options = cpp_demangle::DemangleOptions::new();
    let options = if with_parameters {
        options
    } else {
        options.no_params().no_return_type()
    };
    let parsed = cpp_demangle::Symbol::new(name).ok()?;
    parsed.demangle_with_options(&options).ok()
}

#[cfg(test)]
mod tests {
    use super::demangle;

    // F064
    #[test]
    fn names_with_and_without_parameters() {
        let cost = "_ZN4shop4Item4costEli";
        assert_eq!(demangle(cost, false).as_deref(), Some("shop::Item::cost"));
        let full = demangle(cost, true);
        assert_eq!(full.as_deref(), Some("shop::Item::cost(long, int)"));
        let rust = "_ZN9args_rust4desk4take17h0123456789abcdefE";
        assert_eq!(
            demangle(rust, true).as_deref(),
            Some("args_rust::desk::take")
        );
        assert_eq!(demangle("main", true), None);
    }
}
