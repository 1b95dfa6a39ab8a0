//! What an operator asks first.

use api::statistics::Statistics as StatisticsBody;
use axum::Json;
use axum::extract::State;

use crate::app::App;
use crate::authorize::{Authorized, ReadStatistics};
use crate::problem::Problem;
use crate::views;

/// `GET /statistics`
pub async fn show(who: Authorized<ReadStatistics>, State(app): State<App>) -> Result<Json<StatisticsBody>, Problem> {
    Ok(Json(views::statistics::statistics(app.statistics.seen(&who.caller).await?)))
}
