-- Who may do what, besides users. Instants are microseconds since 1970-01-01 UTC.

-- One API key by its SHA-256: at most `role` of its owner, within `grants` (a JSON array of {sites, verbs,
-- effects}; absent = the owner's). `last_used_at` is a minute behind.
create table api_keys (
    id blob not null primary key check (length(id) = 16),
    user_id blob not null references users (id) on delete cascade,
    name text,
    sha256 text not null unique,
    role text not null,
    grants text,
    created_at integer not null,
    expires_at integer not null,
    last_used_at integer,
    revoked_at integer
) strict;
create index api_keys_user on api_keys (user_id);

-- The token that a refresh token was swapped for: as long as nobody has used that one, the swap may be asked
-- for again.
alter table refresh_tokens add column successor text;
