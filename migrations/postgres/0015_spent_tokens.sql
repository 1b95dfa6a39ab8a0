-- Join tokens that let nobody in any more are forgotten after a while, oldest first.
create index join_tokens_spent on join_tokens (coalesce(used_at, revoked_at, expires_at));
