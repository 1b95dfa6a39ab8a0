-- Whether an agent's key counts: approval, keys that are over, what is left of deleted agents.

alter table agents
    add column awaits_approval boolean not null default false,
    add column deleted_at timestamptz,
    add column rotation_asked_at timestamptz;
comment on column agents.awaits_approval is 'It joined, and opens no session before somebody approves it.';
comment on column agents.deleted_at is
    'Then it is revoked, too, and its agent_id is its name, ~ and its id, so that the name is free.';
comment on column agents.rotation_asked_at is 'It is to make another key, and has not proven one yet.';

alter table join_tokens add column needs_approval boolean not null default false;

create table retired_keys (
    public_key text primary key,
    agent_id uuid not null references agents (id),
    retired_at timestamptz not null
);
comment on table retired_keys is 'One public key that counts no more: revoked, or another took its place. Never accepted again.';
insert into retired_keys (public_key, agent_id, retired_at)
    select public_key, id, revoked_at from agents where revoked_at is not null on conflict do nothing;

create index agents_key on agents (public_key);
