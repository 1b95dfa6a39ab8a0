-- Whether an agent's key counts: approval, keys that are over, what is left of deleted agents.

-- It joined, and opens no session before somebody approves it.
alter table agents add column awaits_approval integer not null default 0;
-- Then it is revoked, too, and its `agent_id` is its name, `~` and its id, so that the name is free.
alter table agents add column deleted_at integer;
-- It is to make another key, and has not proven one yet.
alter table agents add column rotation_asked_at integer;

alter table join_tokens add column needs_approval integer not null default 0;

-- One public key that counts no more: revoked, or another took its place. Never accepted again.
create table retired_keys (
    public_key text not null primary key,
    agent_id blob not null references agents (id),
    retired_at integer not null
) strict, without rowid;
insert into retired_keys (public_key, agent_id, retired_at)
    select public_key, id, revoked_at from agents where revoked_at is not null on conflict do nothing;

create index agents_key on agents (public_key);
