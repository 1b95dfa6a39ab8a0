//! Logging in and out, and one's own account.

use api::access::Me as MeBody;
use api::auth::{ChangePassword, Login as LoginBody, Refresh, Tokens as TokensBody};
use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use domain::time::Timestamp;
use services::accounts::{AccountError, Login};

use crate::app::App;
use crate::authorize::{Anyone, Authorized, OwnAccount, OwnLogin};
use crate::body::Strict;
use crate::guesses::Guess;
use crate::problem::{Code, Problem};
use crate::sessions::Proof;
use crate::views;

/// Longest name and password that are looked at, in bytes.
const NAME_MAX: usize = 256;
const PASSWORD_MAX: usize = 1024;

/// `POST /auth/login`
pub async fn login(
    Anyone { origin }: Anyone,
    State(app): State<App>,
    Strict(body): Strict<LoginBody>,
) -> Result<Json<TokensBody>, Problem> {
    let LoginBody { name, password } = body;
    bounded("/name", &name, NAME_MAX)?;
    bounded("/password", &password, PASSWORD_MAX)?;
    let guess = app.guesses.take(origin.ip_address.as_deref(), &name, app.clock.now()).await?;
    let login = app.accounts.login(&name, &password, &origin).await;
    settle(&app, guess, login.as_ref().err()).await;
    tokens(&app, login?)
}

/// `POST /auth/refresh`
pub async fn refresh(
    Anyone { origin }: Anyone,
    State(app): State<App>,
    Strict(Refresh { refresh_token }): Strict<Refresh>,
) -> Result<Json<TokensBody>, Problem> {
    bounded("/refresh_token", &refresh_token, NAME_MAX)?;
    tokens(&app, app.accounts.refresh(&refresh_token, &origin).await?)
}

/// `POST /auth/logout`
pub async fn logout(
    who: Authorized<OwnLogin>,
    State(app): State<App>,
    Strict(Refresh { refresh_token }): Strict<Refresh>,
) -> Result<StatusCode, Problem> {
    bounded("/refresh_token", &refresh_token, NAME_MAX)?;
    // Whoever may this came with an access token.
    let Proof::Login(claims) = &who.token else { return Err(Problem::internal("a login without a token")) };
    app.accounts.logout(&who.caller, &claims.login, &refresh_token, &who.origin).await?;
    app.changed(claims.user);
    Ok(StatusCode::NO_CONTENT)
}

/// `GET /me`
pub async fn me(who: Authorized<OwnAccount>) -> Json<MeBody> {
    Json(views::access::me(&who.known))
}

/// `POST /me/password`
pub async fn change_password(
    who: Authorized<OwnLogin>,
    State(app): State<App>,
    Strict(ChangePassword { current, new }): Strict<ChangePassword>,
) -> Result<StatusCode, Problem> {
    bounded("/current", &current, PASSWORD_MAX)?;
    let peer = who.origin.ip_address.as_deref();
    let guess = app.guesses.take(peer, &who.caller.name, app.clock.now()).await?;
    let changed = app.accounts.change_password(&who.caller, &current, &new, &who.origin).await;
    settle(&app, guess, changed.as_ref().err()).await;
    if let Some(user) = who.caller.principal.user() {
        app.changed(user);
    }
    changed?;
    Ok(StatusCode::NO_CONTENT)
}

fn bounded(pointer: &str, text: &str, max: usize) -> Result<(), Problem> {
    let message = || format!("{} bytes; at most {max}", text.len());
    if text.len() <= max { Ok(()) } else { Err(Problem::at(Code::InvalidBody, pointer, message())) }
}

fn tokens(app: &App, login: Login) -> Result<Json<TokensBody>, Problem> {
    let Login { user, family, refresh_token } = login;
    let now: Timestamp = app.clock.now();
    let access_token = app.tokens.issue(user.id, user.token_version, &family, now).map_err(Problem::internal)?;
    let expires_in = app.tokens.life().as_secs();
    Ok(Json(TokensBody { access_token, token_type: "Bearer".to_owned(), expires_in, refresh_token }))
}

/// Only a wrong guess costs anything.
async fn settle(app: &App, guess: Guess, error: Option<&AccountError>) {
    if !matches!(error, Some(AccountError::Refused | AccountError::WrongPassword)) {
        app.guesses.give(guess).await;
    }
}
