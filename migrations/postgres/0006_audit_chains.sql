-- The audit log hangs on chains, so that a change behind the host's back is found. Hashes are 32 bytes.

create table audit_chains (
    id uuid primary key,
    begun_at timestamptz not null,
    cause text not null,
    unchained bigint not null,
    after text not null,
    position bigint not null,
    hash bytea not null,
    sealed_at timestamptz not null,
    seal text not null,
    cut_position bigint,
    cut_hash bytea,
    cut_at timestamptz,
    cut_seal text
);
comment on table audit_chains is
    'One chain of audit entries: those of one start of one host. after is a JSON array of {chain, position, hash}: where the '
    'chains before it ended. position, hash, sealed_at and seal move with every transaction that adds entries; the key that '
    'seals is not in the store. The columns that begin with cut_ say up to where entries were pruned.';

alter table audit_logs add column chain uuid;
alter table audit_logs add column position bigint;
alter table audit_logs add column hash bytea;
-- Numbers come from event_counter, in the order of commits, and are part of what is hashed.
alter table audit_logs alter column id drop identity;
comment on table audit_logs is
    'Who did what; a row is written in the same transaction as what it tells of. id counts up in the order of commits. chain, '
    'position and hash say where it hangs; they are empty in rows that are older than chains.';
create unique index audit_logs_chain on audit_logs (chain, position) where chain is not null;
create index audit_logs_actor on audit_logs (actor, id);
create index audit_logs_action on audit_logs (action, id);
create index audit_logs_timestamp on audit_logs (timestamp);

alter table event_counter add column last_audit bigint not null default 0;
update event_counter set last_audit = (select coalesce(max(id), 0) from audit_logs);

-- The log only grows, but for what a checkpoint covers.
create function audit_logs_stay() returns trigger language plpgsql as $$
begin
    if tg_op = 'DELETE' and exists (
        select 1 from audit_chains c where c.id = old.chain and c.cut_position >= old.position
    ) then
        return old;
    end if;
    raise exception 'audit entries neither change nor are deleted';
end $$;
create trigger audit_logs_stay before update or delete on audit_logs for each row execute function audit_logs_stay();
