//! WASI that answers with nothing, for guests of the compat tier whose toolchain brought it along: no files, no
//! network, no environment, no arguments; the time is always 0, random bytes are zeros, whatever can fail fails,
//! and whatever can be waited for is there. Equal calls get equal answers.
//!
//! Invariant: no answer depends on anything but the question; nothing of the host is behind any of it.

use wasmtime::component::types::{ComponentFunc, ComponentItem, Type};
use wasmtime::component::{Component, Linker, LinkerInstance, Resource, ResourceAny, ResourceType, Val};
use wasmtime::{Engine, StoreContextMut};

use crate::guest::Guest;

/// Most random bytes at once.
const MAX_ZEROS: u64 = 64 * 1024;

/// What every handle leads to.
struct Nothing;

/// Whether `name` is an interface of WASI 0.2.
pub(crate) fn answers(name: &str) -> bool {
    const PACKAGES: [&str; 7] = ["cli", "clocks", "filesystem", "http", "io", "random", "sockets"];
    let Some((package, rest)) = name.strip_prefix("wasi:").and_then(|name| name.split_once('/')) else { return false };
    let Some((_, patch)) = rest.split_once("@0.2.") else { return false };
    PACKAGES.contains(&package) && !patch.is_empty() && patch.bytes().all(|byte| byte.is_ascii_digit())
}

/// Gives `linker` what `component` imports of WASI.
pub(crate) fn link(linker: &mut Linker<Guest>, engine: &Engine, component: &Component) -> wasmtime::Result<()> {
    for (name, import) in component.component_type().imports(engine) {
        if let (true, ComponentItem::ComponentInstance(interface)) = (answers(name), import.ty) {
            let mut instance = linker.instance(name)?;
            for (item, export) in interface.exports(engine) {
                fill(&mut instance, item, export.ty)?;
            }
        }
    }
    Ok(())
}

fn fill(instance: &mut LinkerInstance<'_, Guest>, item: &str, ty: ComponentItem) -> wasmtime::Result<()> {
    match ty {
        ComponentItem::ComponentFunc(_) => {
            let name = item.to_owned();
            instance.func_new(item, move |store, ty, params, results| answer(&name, store, &ty, params, results))
        }
        ComponentItem::Resource(_) => instance.resource(item, ResourceType::host::<Nothing>(), |_, _| Ok(())),
        // Types say nothing by themselves; anything else is missed when the guest is prepared.
        _ => Ok(()),
    }
}

fn answer(
    name: &str,
    mut store: StoreContextMut<'_, Guest>,
    ty: &ComponentFunc,
    params: &[Val],
    results: &mut [Val],
) -> wasmtime::Result<()> {
    for (result, ty) in results.iter_mut().zip(ty.results()) {
        *result = match (name, params) {
            ("get-random-bytes" | "get-insecure-random-bytes", [Val::U64(count)]) if *count <= MAX_ZEROS => {
                Val::List((0..*count).map(|_| Val::U8(0)).collect())
            }
            ("get-random-bytes" | "get-insecure-random-bytes", _) => {
                return Err(wasmtime::Error::msg("wanted more random bytes than anybody needs"));
            }
            ("poll", [Val::List(waited)]) => Val::List((0..).zip(waited).map(|(index, _)| Val::U32(index)).collect()),
            ("[method]pollable.ready", _) => Val::Bool(true),
            _ => nothing(&mut store, &ty)?,
        };
    }
    params.iter().try_for_each(|param| let_go(&mut store, param))
}

/// The least that is of this type.
fn nothing(store: &mut StoreContextMut<'_, Guest>, ty: &Type) -> wasmtime::Result<Val> {
    Ok(match ty {
        Type::Bool => Val::Bool(false),
        Type::S8 => Val::S8(0),
        Type::U8 => Val::U8(0),
        Type::S16 => Val::S16(0),
        Type::U16 => Val::U16(0),
        Type::S32 => Val::S32(0),
        Type::U32 => Val::U32(0),
        Type::S64 => Val::S64(0),
        Type::U64 => Val::U64(0),
        Type::Float32 => Val::Float32(0.0),
        Type::Float64 => Val::Float64(0.0),
        Type::Char => Val::Char(' '),
        Type::String => Val::String(String::new()),
        Type::List(_) => Val::List(Vec::new()),
        Type::Option(_) => Val::Option(None),
        Type::Flags(_) => Val::Flags(Vec::new()),
        Type::Result(ty) => match ty.err() {
            Some(ty) => Val::Result(Err(Some(Box::new(nothing(store, &ty)?)))),
            None => Val::Result(Err(None)),
        },
        Type::Record(ty) => {
            let fields = ty.fields().map(|field| Ok((field.name.to_owned(), nothing(store, &field.ty)?)));
            Val::Record(fields.collect::<wasmtime::Result<_>>()?)
        }
        Type::Tuple(ty) => Val::Tuple(ty.types().map(|ty| nothing(store, &ty)).collect::<wasmtime::Result<_>>()?),
        Type::Enum(ty) => Val::Enum(ty.names().next().unwrap_or_default().to_owned()),
        Type::Variant(ty) => {
            let plain = ty.cases().find(|case| case.ty.is_none());
            let Some(case) = plain.or_else(|| ty.cases().next()) else { return Err(unanswerable()) };
            let inside = case.ty.map(|ty| nothing(store, &ty)).transpose()?;
            Val::Variant(case.name.to_owned(), inside.map(Box::new))
        }
        Type::Own(_) => Val::Resource(ResourceAny::try_from_resource(Resource::<Nothing>::new_own(0), store)?),
        Type::Borrow(_)
        | Type::Map(_)
        | Type::Future(_)
        | Type::Stream(_)
        | Type::ErrorContext
        | Type::FixedLengthList(_) => return Err(unanswerable()),
    })
}

fn unanswerable() -> wasmtime::Error {
    wasmtime::Error::msg("asked WASI for something there is no empty answer to")
}

/// Handles that came as arguments are the host's to let go of.
fn let_go(store: &mut StoreContextMut<'_, Guest>, value: &Val) -> wasmtime::Result<()> {
    match value {
        Val::Resource(handle) => handle.resource_drop(&mut *store),
        Val::List(values) | Val::Tuple(values) => values.iter().try_for_each(|value| let_go(store, value)),
        Val::Record(fields) => fields.iter().try_for_each(|(_, value)| let_go(store, value)),
        Val::Option(Some(value)) | Val::Variant(_, Some(value)) => let_go(store, value),
        Val::Result(Ok(Some(value)) | Err(Some(value))) => let_go(store, value),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_wasi_0_2_is_answered() {
        for good in ["wasi:cli/environment@0.2.0", "wasi:io/poll@0.2.12", "wasi:http/types@0.2.10"] {
            assert!(answers(good), "{good}");
        }
        for bad in [
            "wasi:cli/environment@0.3.0",
            "wasi:cli/environment",
            "wasi:nn/graph@0.2.0",
            "wasi:io/poll@0.2.",
            "wasi:io/poll@0.2.0-rc",
            "evil:io/poll@0.2.0",
        ] {
            assert!(!answers(bad), "{bad}");
        }
    }
}
