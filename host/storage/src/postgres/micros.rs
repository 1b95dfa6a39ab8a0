//! Instants as `timestamptz`: both count microseconds, from different beginnings, so that nothing is
//! rounded on the way.

use domain::time::Timestamp;
use sqlx::encode::IsNull;
use sqlx::error::BoxDynError;
use sqlx::postgres::{PgArgumentBuffer, PgHasArrayType, PgTypeInfo, PgValueFormat, PgValueRef};
use sqlx::types::chrono::{DateTime, Utc};
use sqlx::{Decode, Encode, Postgres, Type};

/// From 1970-01-01 to 2000-01-01, where PostgreSQL begins.
const EPOCH: i64 = 946_684_800_000_000;
/// The first and the last instant PostgreSQL knows, on its own scale: 4714-11-24 BC, and the last
/// microsecond of 294276 AD.
const FIRST: i64 = -211_813_488_000_000_000;
const LAST: i64 = 9_223_371_331_199_999_999;

/// An instant on its way into or out of a column. One beyond what PostgreSQL knows becomes the nearest
/// it does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Micros(pub Timestamp);

impl Micros {
    fn on_their_scale(self) -> i64 {
        self.0.0.saturating_sub(EPOCH).clamp(FIRST, LAST)
    }
}

impl Type<Postgres> for Micros {
    fn type_info() -> PgTypeInfo {
        <DateTime<Utc> as Type<Postgres>>::type_info()
    }
}

impl PgHasArrayType for Micros {
    fn array_type_info() -> PgTypeInfo {
        <DateTime<Utc> as PgHasArrayType>::array_type_info()
    }
}

impl Encode<'_, Postgres> for Micros {
    fn encode_by_ref(&self, buffer: &mut PgArgumentBuffer) -> Result<IsNull, BoxDynError> {
        Encode::<Postgres>::encode(self.on_their_scale(), buffer)
    }
}

impl Decode<'_, Postgres> for Micros {
    fn decode(value: PgValueRef<'_>) -> Result<Micros, BoxDynError> {
        match value.format() {
            PgValueFormat::Binary => {
                let theirs = <i64 as Decode<Postgres>>::decode(value)?;
                Ok(Micros(Timestamp(theirs.saturating_add(EPOCH))))
            }
            // Only simple queries answer in text, and none of ours is one.
            PgValueFormat::Text => Err("an instant came as text".into()),
        }
    }
}

/// An instant as a parameter.
pub(super) fn micros(at: Timestamp) -> Micros {
    Micros(at)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_end_of_time_is_the_nearest_that_postgresql_knows() {
        let cases = [
            (0, -EPOCH),
            (EPOCH, 0),
            (1_700_000_000_000_001, 753_315_200_000_001),
            (i64::MIN, FIRST),
            (i64::MAX, i64::MAX - EPOCH),
        ];
        for (ours, theirs) in cases {
            assert_eq!(micros(Timestamp(ours)).on_their_scale(), theirs, "{ours}");
        }
    }
}
