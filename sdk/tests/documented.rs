//! Every public item of the SDK has a description and an example, and rustdoc's tests compile the examples.

use std::path::{Path, PathBuf};

use syn::{Attribute, ImplItem, Item, Visibility};

/// Written for macros and for wasm; authors do not see it.
const HIDDEN: [&str; 3] = ["bindings.rs", "guest.rs", "guest/rules.rs"];

/// What is missing, as `file: item: what`.
#[derive(Default)]
struct Missing {
    file: String,
    seen: usize,
    lines: Vec<String>,
}

impl Missing {
    fn item(&mut self, visible: bool, name: &str, attributes: &[Attribute]) {
        if !visible || hidden(attributes) {
            return;
        }
        self.seen += 1;
        let text = docs(attributes);
        if text.trim().is_empty() {
            self.lines.push(format!("{}: {name}: no description", self.file));
        } else if !text.contains("```") {
            self.lines.push(format!("{}: {name}: no example", self.file));
        }
    }

    fn items(&mut self, items: &[Item]) {
        let public = |visibility: &Visibility| matches!(visibility, Visibility::Public(_));
        for item in items {
            match item {
                Item::Fn(item) => self.item(is_seen(&item.vis, &item.attrs), &item.sig.ident.to_string(), &item.attrs),
                Item::Struct(item) => self.item(public(&item.vis), &item.ident.to_string(), &item.attrs),
                Item::Enum(item) => self.item(public(&item.vis), &item.ident.to_string(), &item.attrs),
                Item::Trait(item) => self.item(public(&item.vis), &item.ident.to_string(), &item.attrs),
                Item::Const(item) => self.item(public(&item.vis), &item.ident.to_string(), &item.attrs),
                Item::Static(item) => self.item(public(&item.vis), &item.ident.to_string(), &item.attrs),
                Item::Type(item) => self.item(public(&item.vis), &item.ident.to_string(), &item.attrs),
                Item::Mod(item) if public(&item.vis) && !hidden(&item.attrs) => {
                    self.items(item.content.as_ref().map(|(_, items)| items.as_slice()).unwrap_or_default());
                }
                // What a trait's implementation does is said where the trait is.
                Item::Impl(block) if block.trait_.is_none() && !hidden(&block.attrs) => {
                    let owner = type_name(&block.self_ty);
                    for inner in &block.items {
                        if let ImplItem::Fn(method) = inner {
                            let name = format!("{owner}::{}", method.sig.ident);
                            self.item(public(&method.vis), &name, &method.attrs);
                        }
                    }
                }
                _ => {}
            }
        }
    }
}

/// A proc macro is public by its attribute, too; they are all `pub fn`.
fn is_seen(visibility: &Visibility, attributes: &[Attribute]) -> bool {
    matches!(visibility, Visibility::Public(_)) && !attributes.iter().any(|attribute| attribute.path().is_ident("test"))
}

fn hidden(attributes: &[Attribute]) -> bool {
    attributes.iter().any(|attribute| {
        let is = |word: &str| attribute.meta.require_list().is_ok_and(|list| list.tokens.to_string().contains(word));
        (attribute.path().is_ident("doc") && is("hidden"))
            || (attribute.path().is_ident("cfg") && is("wasm") && !is("not"))
    })
}

fn docs(attributes: &[Attribute]) -> String {
    let line = |attribute: &Attribute| match &attribute.meta.require_name_value().ok()?.value {
        syn::Expr::Lit(syn::ExprLit { lit: syn::Lit::Str(text), .. }) => Some(text.value()),
        _ => None,
    };
    let docs = attributes.iter().filter(|attribute| attribute.path().is_ident("doc"));
    docs.filter_map(line).collect::<Vec<_>>().join("\n")
}

fn type_name(ty: &syn::Type) -> String {
    match ty {
        syn::Type::Path(path) => path.path.segments.last().map(|part| part.ident.to_string()).unwrap_or_default(),
        _ => "_".to_owned(),
    }
}

fn sources(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).expect("a folder") {
        let path = entry.expect("an entry").path();
        match path.is_dir() {
            true => sources(&path, found),
            false => found.push(path),
        }
    }
}

#[test]
fn every_public_item_has_a_description_and_an_example() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut files = Vec::new();
    sources(&root.join("src"), &mut files);
    files.push(root.join("macros/src/lib.rs"));
    files.sort();
    let mut missing = Missing::default();
    for path in files {
        let name = path.strip_prefix(root).expect("below the root").display().to_string();
        if HIDDEN.iter().any(|hidden| name.ends_with(hidden)) {
            continue;
        }
        let text = std::fs::read_to_string(&path).expect("a file");
        missing.file = name;
        missing.items(&syn::parse_file(&text).expect("Rust").items);
    }
    assert!(missing.seen > 80, "only {} items were looked at", missing.seen);
    assert!(
        missing.lines.is_empty(),
        "{} of {} items:\n{}",
        missing.lines.len(),
        missing.seen,
        missing.lines.join("\n")
    );
}
