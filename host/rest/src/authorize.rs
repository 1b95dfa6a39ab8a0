//! Proof that a caller may. A guarded handler begins with an [`Authorized`] value, only this file can
//! make one, and the route table does not take a handler that begins with anything else.

use std::marker::PhantomData;
use std::sync::Arc;

use axum::extract::FromRequestParts;
use axum::http::header;
use axum::http::request::Parts;
use domain::access::{Caller, Permission};
use ports::users::User;
use services::origin::Origin;

use crate::app::App;
use crate::jwt::{Claims, TokenError};
use crate::problem::{Code, Problem};
use crate::request::{Context, single};

/// Who may use a route.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// Anybody, without a token.
    Public,
    /// Whoever has this permission.
    Needs(Permission),
}

/// A permission as a type.
pub trait Needs: Send + Sync + 'static {
    /// The permission.
    const PERMISSION: Permission;
}

/// Who may use a route, as a type: a permission, or [`Everyone`].
pub trait Door {
    /// The same as a value.
    const ACCESS: Access;
}

impl<P: Needs> Door for P {
    const ACCESS: Access = Access::Needs(P::PERMISSION);
}

/// Stands in the route table for routes that need no token.
pub enum Everyone {}

impl Door for Everyone {
    const ACCESS: Access = Access::Public;
}

/// Declares one type for each permission; the names are the domain's.
macro_rules! permissions {
    ($($name:ident)*) => {
        $(
            #[doc = concat!("[`Permission::", stringify!($name), "`] as a type.")]
            pub enum $name {}

            impl Needs for $name {
                const PERMISSION: Permission = Permission::$name;
            }
        )*
    };
}

permissions! {
    OwnAccount ReadAgents ManageAgents EnrolAgents ReadGroups ManageGroups ReadVerbs RunCommands ReadCommands ReadPlugins ManagePlugins
    ManageUsers ReadAudit
}

/// A caller who proved who they are and whose role has `P`.
pub struct Authorized<P> {
    /// Who is asking.
    pub caller: Caller,
    /// Their row.
    pub user: Arc<User>,
    /// What their token says.
    pub claims: Claims,
    /// Where the request comes from.
    pub origin: Origin,
    /// Private, so that only the extractor below can make one.
    proof: PhantomData<P>,
}

impl<P: Needs> FromRequestParts<App> for Authorized<P> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self, Problem> {
        let origin = origin(parts)?;
        let token = bearer(parts)?;
        let now = app.clock.now();
        let claims = app.tokens.read(token, now).map_err(|error| {
            let code = match error {
                TokenError::Expired => Code::TokenExpired,
                TokenError::Invalid => Code::InvalidToken,
            };
            Problem::new(code, error.to_string())
        })?;
        let user = app.sessions.user(&app.accounts, &claims, now).await?;
        let user = user.ok_or_else(|| Problem::new(Code::InvalidToken, TokenError::Invalid.to_string()))?;
        if let Some(context) = parts.extensions.get::<Context>() {
            _ = context.caller.set(user.name.clone());
        }
        let caller = Caller { user: user.id, name: user.name.clone(), role: user.role, grants: user.grants.clone() };
        caller.may(P::PERMISSION)?;
        Ok(Authorized { caller, user, claims, origin, proof: PhantomData })
    }
}

/// Anybody at all, with where they come from.
pub struct Anyone {
    /// Where the request comes from.
    pub origin: Origin,
}

impl FromRequestParts<App> for Anyone {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &App) -> Result<Self, Problem> {
        Ok(Anyone { origin: origin(parts)? })
    }
}

fn origin(parts: &Parts) -> Result<Origin, Problem> {
    let context = parts.extensions.get::<Context>().map(|context| context.origin.clone());
    context.ok_or_else(|| Problem::internal("a request came in without passing the edge"))
}

/// The token of the one `Authorization` header. The scheme's case does not matter (RFC 9110).
fn bearer(parts: &Parts) -> Result<&str, Problem> {
    if !parts.headers.contains_key(header::AUTHORIZATION) {
        let detail = "send `Authorization: Bearer …` with the token that POST /api/v1/auth/login answers";
        return Err(Problem::new(Code::Unauthenticated, detail));
    }
    let value = single(&parts.headers, &header::AUTHORIZATION).and_then(|value| value.split_once(' '));
    let token = value.filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer")).map(|(_, token)| token.trim());
    token.filter(|token| !token.is_empty()).ok_or_else(|| {
        Problem::new(Code::InvalidToken, "send exactly one `Authorization` header, of the form `Bearer …`")
    })
}

/// Implemented for the arguments of handlers that begin with the proof `D` asks for.
pub trait BeginsWith<D> {}

macro_rules! begins_with {
    ($($rest:ident),*) => {
        impl<M, P: Needs, $($rest),*> BeginsWith<P> for (M, Authorized<P>, $($rest),*) {}
        impl<M, $($rest),*> BeginsWith<Everyone> for (M, Anyone, $($rest),*) {}
    };
}

begins_with!();
begins_with!(A);
begins_with!(A, B);
begins_with!(A, B, C);
begins_with!(A, B, C, E);
