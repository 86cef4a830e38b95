//! What things may not be called: words that say nothing.

use syn::visit::{self, Visit};

use crate::assert_tidy;
use crate::rust::{parse, sources};
use crate::tree::{Tracked, tracked};

const BANNED: &[&str] = &["manager", "util", "utils", "common", "misc", "base"];

/// The kernel's `struct sock_common` and `BPF_F_NO_COMMON_LRU`, whose names are what they are.
const OF_KERNEL: &[&str] = &["SocketCommon", "SOCK_COMMON", "sock_common", "NO_COMMON_LRU"];

/// Functions that carry the kernel's name (of a helper), prefix and all.
const KERNEL_NAMES: &[&str] = &["get_prandom_u32", "get_smp_processor_id", "get_socket_cookie"];

fn bad_path(path: &str) -> Option<String> {
    let word = path.split(['/', '.']).find_map(banned_word)?;
    Some(format!("{path}: {word:?} says nothing; name it for what it holds"))
}

fn bad_items(file: &Tracked) -> Vec<String> {
    let mut names = Names(Vec::new());
    names.visit_file(&parse(file));
    names
        .0
        .iter()
        .filter_map(|(name, kind)| {
            let line = name.span().start().line;
            let name = name.to_string();
            let of_kernel = OF_KERNEL.iter().any(|known| name.contains(known));
            if let Some(word) = banned_word(&name).filter(|_| !of_kernel) {
                return Some(format!("{}:{line}: {name}: {word:?} says nothing", file.path));
            }
            let getter = *kind == Kind::Function && name.starts_with("get_");
            (getter && !KERNEL_NAMES.contains(&name.as_str()))
                .then(|| format!("{}:{line}: fn {name}: leave `get_` out", file.path))
        })
        .collect()
}

/// The first banned word among the words of `name`, in snake, kebab or camel case.
fn banned_word(name: &str) -> Option<&'static str> {
    let mut words = String::new();
    for c in name.chars() {
        if c.is_uppercase() && !words.ends_with(char::is_uppercase) {
            words.push('_');
        }
        words.push(c);
    }
    words
        .to_lowercase()
        .split(['_', '-'])
        .find_map(|word| BANNED.iter().find(|banned| **banned == word).copied())
}

#[derive(PartialEq, Eq)]
enum Kind {
    Function,
    Other,
}

/// Names that the file gives. Methods of traits are the trait's, not the implementation's.
struct Names(Vec<(syn::Ident, Kind)>);

impl Names {
    fn other(&mut self, name: &syn::Ident) {
        self.0.push((name.clone(), Kind::Other));
    }
}

impl<'ast> Visit<'ast> for Names {
    fn visit_item_fn(&mut self, item: &'ast syn::ItemFn) {
        self.0.push((item.sig.ident.clone(), Kind::Function));
        visit::visit_item_fn(self, item);
    }

    fn visit_item_impl(&mut self, item: &'ast syn::ItemImpl) {
        let ours = item.trait_.is_none();
        for item in item.items.iter().filter(|_| ours) {
            match item {
                syn::ImplItem::Fn(function) => {
                    self.0.push((function.sig.ident.clone(), Kind::Function));
                }
                syn::ImplItem::Const(constant) => self.other(&constant.ident),
                _ => {}
            }
        }
        visit::visit_item_impl(self, item);
    }

    fn visit_trait_item_fn(&mut self, item: &'ast syn::TraitItemFn) {
        self.0.push((item.sig.ident.clone(), Kind::Function));
        visit::visit_trait_item_fn(self, item);
    }

    fn visit_item_struct(&mut self, item: &'ast syn::ItemStruct) {
        self.other(&item.ident);
        visit::visit_item_struct(self, item);
    }

    fn visit_item_enum(&mut self, item: &'ast syn::ItemEnum) {
        self.other(&item.ident);
        visit::visit_item_enum(self, item);
    }

    fn visit_item_trait(&mut self, item: &'ast syn::ItemTrait) {
        self.other(&item.ident);
        visit::visit_item_trait(self, item);
    }

    fn visit_item_type(&mut self, item: &'ast syn::ItemType) {
        self.other(&item.ident);
        visit::visit_item_type(self, item);
    }

    fn visit_item_mod(&mut self, item: &'ast syn::ItemMod) {
        self.other(&item.ident);
        visit::visit_item_mod(self, item);
    }

    fn visit_item_const(&mut self, item: &'ast syn::ItemConst) {
        self.other(&item.ident);
        visit::visit_item_const(self, item);
    }

    fn visit_item_static(&mut self, item: &'ast syn::ItemStatic) {
        self.other(&item.ident);
        visit::visit_item_static(self, item);
    }

    fn visit_variant(&mut self, variant: &'ast syn::Variant) {
        self.other(&variant.ident);
        visit::visit_variant(self, variant);
    }
}

#[test]
fn files_are_named_for_what_they_hold() {
    assert_tidy(&tracked().iter().filter_map(|file| bad_path(&file.path)).collect::<Vec<_>>());
}

#[test]
fn items_are_named_for_what_they_are() {
    assert_tidy(&sources().flat_map(|file| bad_items(&file)).collect::<Vec<_>>());
}

#[test]
fn names_that_say_nothing_are_seen() {
    for path in ["bpf/src/util.rs", "control/common/x.rs", "bpf/map_manager.rs"] {
        assert!(bad_path(path).is_some(), "{path}");
    }
    for path in ["bpf/src/database.rs", "bpf/src/utility.rs"] {
        assert_eq!(bad_path(path), None);
    }
    let bad = |text: &str| bad_items(&Tracked::new("a.rs", text)).len();
    assert_eq!(bad("struct MapManager;"), 1);
    assert_eq!(bad("mod misc {}"), 1);
    assert_eq!(bad("impl A { fn get_it(&self) {} fn target_get(&self) {} }"), 1);
    assert_eq!(bad("trait A { fn get_it(&self); }"), 1);
    assert_eq!(bad("const UTIL_SIZE: u8 = 0; enum E { Base, Basement }"), 2);
    assert_eq!(bad("impl Theirs for A { fn get_it(&self) {} } fn get_prandom_u32() {}"), 0);
}
