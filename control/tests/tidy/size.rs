//! How long a file and a function may be.

use syn::spanned::Spanned;
use syn::visit::{self, Visit};

use crate::assert_tidy;
use crate::rust::{code_lines, is_test, parse, sources};
use crate::tree::Tracked;

/// Lines of code of a file, without comments and tests.
const FILE_LINES: usize = 800;
/// Lines of a function from its signature to its closing brace.
const FUNCTION_LINES: usize = 69;

fn long_files<'a>(files: impl Iterator<Item = &'a Tracked>) -> Vec<String> {
    files
        .filter(|file| !is_test(&file.path))
        .map(|file| (file, code_lines(file).len()))
        .filter(|(_, lines)| *lines > FILE_LINES)
        .map(|(file, lines)| format!("{}: {lines} lines of code, {FILE_LINES} allowed", file.path))
        .collect()
}

fn long_functions(file: &Tracked) -> Vec<String> {
    let mut functions = Functions(Vec::new());
    functions.visit_file(&parse(file));
    functions
        .0
        .into_iter()
        .filter(|(_, _, lines)| *lines > FUNCTION_LINES)
        .map(|(name, line, lines)| {
            format!("{}:{line}: fn {name} has {lines} lines, {FUNCTION_LINES} allowed", file.path)
        })
        .collect()
}

/// (name, first line, lines) of every function.
struct Functions(Vec<(String, usize, usize)>);

impl Functions {
    fn note(&mut self, signature: &syn::Signature, body: &syn::Block) {
        let first = signature.span().start().line;
        let last = body.span().end().line;
        self.0.push((signature.ident.to_string(), first, last + 1 - first));
    }
}

impl<'ast> Visit<'ast> for Functions {
    fn visit_item_fn(&mut self, function: &'ast syn::ItemFn) {
        self.note(&function.sig, &function.block);
        visit::visit_item_fn(self, function);
    }

    fn visit_impl_item_fn(&mut self, function: &'ast syn::ImplItemFn) {
        self.note(&function.sig, &function.block);
        visit::visit_impl_item_fn(self, function);
    }

    fn visit_trait_item_fn(&mut self, function: &'ast syn::TraitItemFn) {
        if let Some(body) = &function.default {
            self.note(&function.sig, body);
        }
        visit::visit_trait_item_fn(self, function);
    }
}

#[test]
fn files_are_short() {
    assert_tidy(&long_files(sources().collect::<Vec<_>>().iter()));
}

#[test]
fn functions_are_short() {
    assert_tidy(&sources().flat_map(|file| long_functions(&file)).collect::<Vec<_>>());
}

#[test]
fn a_long_file_is_seen() {
    let text = "const A: u8 = 0;\n".repeat(FILE_LINES);
    assert!(long_files([Tracked::new("a.rs", &text)].iter()).is_empty());
    let text = text + "const A: u8 = 0;\n";
    assert_eq!(long_files([Tracked::new("a.rs", &text)].iter()).len(), 1);
    assert!(long_files([Tracked::new("tests/a.rs", &text)].iter()).is_empty());
}

#[test]
fn a_long_function_is_seen() {
    let function =
        |lines: usize| format!("impl A {{ fn f() {{\n{}}} }}\n", "g();\n".repeat(lines - 2));
    assert!(long_functions(&Tracked::new("a.rs", &function(FUNCTION_LINES))).is_empty());
    let seen = long_functions(&Tracked::new("a.rs", &function(FUNCTION_LINES + 1)));
    assert_eq!(seen, ["a.rs:1: fn f has 70 lines, 69 allowed"]);
}
