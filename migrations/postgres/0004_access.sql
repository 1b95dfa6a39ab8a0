-- Who may do what, besides users.

create table api_keys (
    id uuid primary key,
    user_id uuid not null references users (id) on delete cascade,
    name text,
    sha256 text not null unique,
    role text not null,
    grants jsonb,
    created_at timestamptz not null,
    expires_at timestamptz not null,
    last_used_at timestamptz,
    revoked_at timestamptz
);
comment on table api_keys is
    'One API key by its SHA-256: at most role of its owner, within grants ([{sites, verbs, effects}]; null = the owner''s). last_used_at is a minute behind.';
create index api_keys_user on api_keys (user_id);

alter table refresh_tokens add column successor text;
comment on column refresh_tokens.successor is
    'The token it was swapped for: as long as nobody has used that one, the swap may be asked for again.';
