//! Reads Rust sources: parsed items and the lines that carry code.

use std::collections::BTreeSet;

use proc_macro2::{Delimiter, TokenStream, TokenTree};
use syn::spanned::Spanned;
use syn::visit::{self, Visit};

use crate::tree::{Tracked, tracked};

/// The tracked Rust files. One that does not parse is left to the compiler.
pub fn sources() -> impl Iterator<Item = Tracked> {
    tracked().into_iter().filter(|file| file.path.ends_with(".rs"))
}

/// The file's items.
pub fn parse(file: &Tracked) -> syn::File {
    syn::parse_file(&file.text).unwrap_or_else(|error| panic!("{}: {error}", file.path))
}

/// The file's tokens: no comments, no strings' insides, but macros' arguments too.
pub fn tokens(file: &Tracked) -> TokenStream {
    file.text.parse().unwrap_or_else(|error| panic!("{}: {error}", file.path))
}

/// Whether all of the file is test code, by its place.
pub fn is_test(path: &str) -> bool {
    path.split('/').any(|part| matches!(part, "tests" | "benches" | "fuzz" | "tests.rs"))
}

/// Numbers of the lines that carry code: no blanks, no comments, nothing under `#[cfg(test)]`.
pub fn code_lines(file: &Tracked) -> BTreeSet<usize> {
    let mut lines = BTreeSet::new();
    token_lines(tokens(file), &mut lines);
    // Documentation arrives as attributes; its lines begin like comments.
    let comments = file.text.lines().enumerate().filter(|(_, line)| line.trim().starts_with("//"));
    for (index, _) in comments {
        lines.remove(&(index + 1));
    }
    let mut tests = TestModules(Vec::new());
    tests.visit_file(&parse(file));
    for (first, last) in tests.0 {
        lines.retain(|line| !(first..=last).contains(line));
    }
    lines
}

fn token_lines(tokens: TokenStream, lines: &mut BTreeSet<usize>) {
    for token in tokens {
        if let TokenTree::Group(group) = &token {
            token_lines(group.stream(), lines);
            if group.delimiter() != Delimiter::None {
                lines.insert(group.span_open().start().line);
                lines.insert(group.span_close().end().line);
            }
        } else {
            lines.extend(token.span().start().line..=token.span().end().line);
        }
    }
}

/// First and last lines of items under `#[cfg(test)]`.
struct TestModules(Vec<(usize, usize)>);

impl<'ast> Visit<'ast> for TestModules {
    fn visit_item_mod(&mut self, module: &'ast syn::ItemMod) {
        if is_cfg_test(&module.attrs) {
            let span = module.span();
            self.0.push((span.start().line, span.end().line));
        } else {
            visit::visit_item_mod(self, module);
        }
    }

    fn visit_item_fn(&mut self, function: &'ast syn::ItemFn) {
        if is_cfg_test(&function.attrs) {
            let span = function.span();
            self.0.push((span.start().line, span.end().line));
        }
    }
}

fn is_cfg_test(attributes: &[syn::Attribute]) -> bool {
    attributes.iter().any(|attribute| {
        attribute.path().is_ident("cfg")
            && attribute.parse_args::<syn::Path>().is_ok_and(|path| path.is_ident("test"))
    })
}

#[test]
fn comments_blanks_and_tests_are_no_code() {
    let text = "//! doc\n\n/// doc\nfn f() {\n    // why\n    g(\"a\n    b\");\n}\n\n#[cfg(test)]\nmod tests {\n    fn t() {}\n}\n";
    let lines = code_lines(&Tracked::new("x.rs", text));
    assert_eq!(lines.into_iter().collect::<Vec<_>>(), [4, 6, 7, 8]);
}
