pub(crate) const TESTS: &[(&str, fn() -> Result<(), String>)] = &[];
