//! Proof that a caller may. A guarded handler begins with an [`Authorized`] value, only this file can
//! make one, and the route table does not take a handler that begins with anything else.

use std::marker::PhantomData;
use std::sync::Arc;

use axum::extract::FromRequestParts;
use axum::http::header;
use axum::http::request::Parts;
use domain::access::{Caller, Permission};
use domain::time::Timestamp;
use services::origin::Origin;

use crate::app::App;
use crate::edge::PROBES;
use crate::jwt::TokenError;
use crate::pace::Standing;
use crate::problem::{Code, Problem};
use crate::request::{Context, single};
use crate::sessions::{self, Known, Proof};

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
    OwnAccount OwnLogin ReadAgents ManageAgents EnrolAgents ReadGroups ManageGroups ReadVerbs RunCommands ReadCommands ReadPlugins ManagePlugins
    ManageUsers ReadStatistics ReadAudit ReadAlerts AnswerAlerts ManageChannels
}

/// A caller who proved who they are and whose role has `P`.
pub struct Authorized<P> {
    /// Who is asking.
    pub caller: Arc<Caller>,
    /// All that is known of them.
    pub known: Arc<Known>,
    /// What they came with.
    pub token: Proof,
    /// Where the request comes from.
    pub origin: Arc<Origin>,
    /// Private, so that only the extractor below can make one.
    proof: PhantomData<P>,
}

impl<P: Needs> FromRequestParts<App> for Authorized<P> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self, Problem> {
        let context = context(parts)?;
        let Context { origin, standing, caller } = context.as_ref();
        let now = app.clock.now();
        let address = origin.ip_address.as_deref();
        let token = match read(parts, app, now).await {
            Ok(token) => token,
            Err(problem) => {
                if problem.code.status().is_client_error() {
                    app.pace.address(address, standing, now).await?;
                }
                return Err(problem);
            }
        };
        let known = identify(&token, app, address, standing, now).await?;
        _ = caller.set(known.caller.clone());
        app.pace.principal(&known.payer, standing, now).await?;
        known.caller.may(P::PERMISSION)?;
        Ok(Authorized { caller: known.caller.clone(), known, token, origin: origin.clone(), proof: PhantomData })
    }
}

/// What the request was sent with. Nothing of the store is asked.
async fn read(parts: &Parts, app: &App, now: Timestamp) -> Result<Proof, Problem> {
    sessions::read(bearer(parts)?, &app.judges(), now).await.map_err(|error| {
        let code = match error {
            TokenError::Expired => Code::TokenExpired,
            TokenError::Invalid => Code::InvalidToken,
        };
        Problem::new(code, error.to_string())
    })
}

/// Whose token it is. Anybody can make up keys, so an address that has sent too many wrong ones has none looked up that
/// this host has not met: a good one goes on, and one that comes for the first time may have to wait until its address
/// has room again.
async fn identify(
    token: &Proof,
    app: &App,
    address: Option<&str>,
    standing: &Standing,
    now: Timestamp,
) -> Result<Arc<Known>, Problem> {
    let aside = if app.sessions.may_be_a_guess(token) { app.pace.set_aside(address, standing, now)? } else { None };
    let known = app.sessions.known(token, &app.judges(), now).await;
    if let Ok(None) = known {
        match aside {
            Some(aside) => app.pace.wrong(aside, standing).await?,
            None => app.pace.address(address, standing, now).await?,
        }
    } else if let Some(aside) = aside {
        app.pace.give_back(&aside);
    }
    known?.ok_or_else(|| Problem::new(Code::InvalidToken, TokenError::Invalid.to_string()))
}

impl<P: Needs> Authorized<P> {
    /// Looks again whether they may, for what goes on for long; `false` when they may no longer. Their grants
    /// are as they are now.
    ///
    /// # Errors
    /// The store's.
    pub async fn again(&mut self, app: &App) -> Result<bool, Problem> {
        let now = app.clock.now();
        let over = match &self.token {
            Proof::Login(claims) => claims.expires_at,
            Proof::Guest(guest) => guest.expires_at,
            Proof::Key(_) => self.known.expires_at,
        };
        match app.sessions.known(&self.token, &app.judges(), now).await? {
            Some(known) if now < over && known.caller.may(P::PERMISSION).is_ok() => {
                self.caller = known.caller.clone();
                self.known = known;
                Ok(true)
            }
            Some(_) | None => Ok(false),
        }
    }
}

/// Anybody at all, with where they come from.
pub struct Anyone {
    /// Where the request comes from.
    pub origin: Arc<Origin>,
}

impl FromRequestParts<App> for Anyone {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self, Problem> {
        let context = context(parts)?;
        let Context { origin, standing, caller: _ } = context.as_ref();
        // Probes are asked by many at one address, and cost next to nothing.
        if !PROBES.contains(&parts.uri.path()) {
            app.pace.address(origin.ip_address.as_deref(), standing, app.clock.now()).await?;
        }
        Ok(Anyone { origin: origin.clone() })
    }
}

fn context(parts: &Parts) -> Result<Arc<Context>, Problem> {
    let context = parts.extensions.get::<Arc<Context>>().cloned();
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
begins_with!(A, B, C, E, F);
