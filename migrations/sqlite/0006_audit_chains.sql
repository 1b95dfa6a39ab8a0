-- The audit log hangs on chains, so that a change behind the host's back is found. Hashes are 32 bytes, instants
-- microseconds since 1970-01-01 UTC.

-- One chain of audit entries: those of one start of one host. `after` is a JSON array of
-- {chain, position, hash}: where the chains before it ended. `position`, `hash`, `sealed_at` and `seal` move
-- with every transaction that adds entries; the key that seals is not in the store. The columns that begin
-- with `cut_` say up to where entries were pruned.
create table audit_chains (
    id blob not null primary key check (length(id) = 16),
    begun_at integer not null,
    cause text not null,
    unchained integer not null,
    after text not null,
    position integer not null,
    hash blob not null check (length(hash) = 32),
    sealed_at integer not null,
    seal text not null,
    cut_position integer,
    cut_hash blob check (length(cut_hash) = 32),
    cut_at integer,
    cut_seal text
) strict, without rowid;

-- Where an entry hangs; empty in those that are older than chains.
alter table audit_logs add column chain blob check (length(chain) = 16);
alter table audit_logs add column position integer;
alter table audit_logs add column hash blob check (length(hash) = 32);
create unique index audit_logs_chain on audit_logs (chain, position) where chain is not null;
create index audit_logs_actor on audit_logs (actor, id);
create index audit_logs_action on audit_logs (action, id);
create index audit_logs_timestamp on audit_logs (timestamp);

-- The log only grows, but for what a checkpoint covers.
create trigger audit_logs_stay before update on audit_logs
begin
    select raise(abort, 'audit entries do not change');
end;
create trigger audit_logs_remain before delete on audit_logs
when not exists (select 1 from audit_chains c where c.id = old.chain and c.cut_position >= old.position)
begin
    select raise(abort, 'audit entries are not deleted');
end;
