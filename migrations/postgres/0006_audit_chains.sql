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
    cut_seal text,
    day bigint not null
);
comment on table audit_chains is
    'One chain of audit entries: those of one start of one host. after is a JSON array of {chain, position, hash}: where the '
    'chains before it ended. position, hash, sealed_at and seal move with every transaction that adds entries; the key that '
    'seals is not in the store. The columns that begin with cut_ say up to where entries were pruned. day is that of its last '
    'entry in audit_logs.';

-- By the day, so that forgetting is dropping. The host makes partitions ahead of time and names each by the days it holds,
-- the first and the one after its last, counted from 1970-01-01 UTC; a day that has none is in the default partition.
alter table audit_logs rename to audit_logs_before;
alter table audit_logs_before drop constraint audit_logs_pkey;

create table audit_logs (
    id bigint not null,
    timestamp timestamptz not null,
    level text not null,
    category text not null,
    action text not null,
    actor text,
    resource_type text,
    resource_id text,
    details jsonb not null,
    ip_address inet,
    user_agent text,
    correlation_id text,
    chain uuid,
    position bigint,
    hash bytea,
    day bigint not null default 9223372036854775807,
    primary key (id, day)
) partition by range (day);
-- Numbers come from event_counter, in the order of commits, and are part of what is hashed.
comment on table audit_logs is
    'Who did what; a row is written in the same transaction as what it tells of. id counts up in the order of commits. chain, '
    'position and hash say where it hangs; they are empty in rows that are older than chains, and these have the last day '
    'there is. day is that of its time or a later one: on one chain it never goes back, so that whatever is dropped of a chain '
    'is its beginning.';
create table audit_logs_default partition of audit_logs default;
comment on table audit_logs_default is 'Entries of days that have no partition of their own.';
create unique index audit_logs_chain on audit_logs (chain, position, day) where chain is not null;
create index audit_logs_actor on audit_logs (actor, id);
create index audit_logs_action on audit_logs (action, id);
create index audit_logs_timestamp on audit_logs (timestamp);

insert into audit_logs (id, timestamp, level, category, action, actor, resource_type, resource_id, details, ip_address,
        user_agent, correlation_id)
    select id, timestamp, level, category, action, actor, resource_type, resource_id, details, ip_address, user_agent,
        correlation_id from audit_logs_before;
drop table audit_logs_before;

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

-- Detaches a partition whose last entry is still the one with this number; false, and nothing is done, when it is another, the
-- partition is gone, or its lock is not to be had at once. The caller seals checkpoints over what was in it, in the same
-- transaction. Whoever writes entries holds event_counter before the log, and so does this, or both could wait for each other.
create function audit_logs_detach(part text, last bigint, wait text) returns boolean language plpgsql as $$
declare
    usual text := current_setting('lock_timeout');
    found bigint;
    done boolean := false;
begin
    perform 1 from event_counter where only_row for update;
    begin
        perform set_config('lock_timeout', wait, true);
        lock table only audit_logs in access exclusive mode;
        execute format('lock table %I in access exclusive mode', part);
        execute format('select max(id) from %I', part) into found;
        if found is not distinct from last then
            execute format('alter table audit_logs detach partition %I', part);
            done := true;
        end if;
    exception when lock_not_available or undefined_table then
        done := false;
    end;
    perform set_config('lock_timeout', usual, true);
    return done;
end $$;
