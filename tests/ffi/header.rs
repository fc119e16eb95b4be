//! The header: generated from the code, checked in, complete.

use std::path::Path;

/// The header as the code has it now.
pub(crate) fn generate(root: &Path) -> String {
    let config = cbindgen::Config::from_file(root.join("ffi/cbindgen.toml")).unwrap();
    let mut generated = Vec::new();
    cbindgen::Builder::new()
        .with_config(config)
        .with_src(root.join("ffi/src/lib.rs"))
        .generate()
        .unwrap()
        .write(&mut generated);
    let text = String::from_utf8(generated).unwrap();
    // What Rust calls safety are the caller's duties in C.
    text.replace("// # Safety\n", "// The caller sees to it that:\n")
        .replace("\n// # Errors\n", "\n// Errors:\n")
}

/// A function of the header.
pub(crate) struct Function {
    pub(crate) result: String,
    pub(crate) name: String,
    /// Types and names.
    pub(crate) params: Vec<(String, String)>,
}

/// The functions that a header declares, in its order.
pub(crate) fn functions(header: &str) -> Vec<Function> {
    let declared = header.split("\nKOGGE_API\n").skip(1);
    declared
        .filter_map(|it| it.split_once(");"))
        .filter_map(|(it, _)| it.split_once('('))
        .map(|(head, params)| {
            let (result, name) = typed(head);
            let params = params.split(',').map(typed).filter(|it| !it.1.is_empty());
            Function {
                result,
                name,
                params: params.collect(),
            }
        })
        .collect()
}

/// `const char *text` is `const char *` and `text`.
fn typed(text: &str) -> (String, String) {
    let text = text.split_whitespace().collect::<Vec<_>>().join(" ");
    let start = text.rfind([' ', '*']).map_or(text.len(), |it| it + 1);
    let (kind, name) = text.split_at(start);
    (kind.trim().to_owned(), name.to_owned())
}

/// The structs that a header defines, with the names of their fields.
pub(crate) fn structs(header: &str) -> Vec<(String, Vec<String>)> {
    let defined = header.split("typedef struct {\n").skip(1);
    defined
        .filter_map(|it| it.split_once("\n} "))
        .map(|(fields, rest)| {
            let name = rest.split(';').next().unwrap_or_default().to_owned();
            let lines = fields.lines().map(str::trim);
            let fields = lines.filter(|it| !it.starts_with("//")).map(|it| {
                let it = typed(it.trim_end_matches(';')).1;
                it.split('[').next().unwrap_or_default().to_owned()
            });
            (name, fields.collect())
        })
        .collect()
}

/// The numbers that a header names, macros and enumerators, as `NAME NUMBER` in its order.
pub(crate) fn numbers(header: &str) -> Vec<String> {
    let number = |line: &str| {
        let line = line.trim();
        let (name, number) = match line.strip_prefix("#define ") {
            Some(macro_) => macro_.split_once(' ')?,
            None => line.strip_suffix(',')?.split_once(" = ")?,
        };
        // `KOGGE_API` and the guard are no numbers; `UINT64_MAX` is.
        let is_number = name.starts_with("KOGGE_")
            && number.starts_with(|it: char| it.is_ascii_digit() || it == '-' || it == 'U');
        is_number.then(|| format!("{name} {number}"))
    };
    header.lines().filter_map(number).collect()
}
