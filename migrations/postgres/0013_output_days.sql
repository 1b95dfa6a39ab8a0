-- Output by the day, so that forgetting is dropping. The host makes partitions ahead of time and names each by the
-- number of its day since 1970-01-01 UTC; what comes for a day that has none goes into the default partition.

alter table outputs rename to outputs_before;
alter table outputs_before drop constraint outputs_pkey;
alter table outputs_before drop constraint outputs_command_id_agent_id_attempt_stream_byte_offset_key;
drop index outputs_command;

create table outputs (
    seq bigint not null,
    command_id uuid not null,
    agent_id uuid not null,
    attempt integer not null,
    stream text not null,
    byte_offset bigint not null,
    at timestamptz not null,
    data bytea not null check (length(data) > 0),
    primary key (command_id, seq, at),
    unique (command_id, agent_id, attempt, stream, byte_offset, at)
) partition by range (at);
comment on table outputs is
    'Bytes of one stream of one attempt, as they arrived; no byte is stored twice. seq is the place in the same order as that '
    'of events. Whoever adds to the output of an attempt holds its invocation''s row.';

do $$ declare day bigint; begin
    for day in select distinct floor(extract(epoch from at) / 86400)::bigint from outputs_before loop
        execute format('create table %I partition of outputs for values from (%L) to (%L)', 'outputs_' || day,
            to_timestamp(day * 86400), to_timestamp((day + 1) * 86400));
    end loop;
end $$;
create table outputs_default partition of outputs default;
comment on table outputs_default is 'Output of days that have no partition of their own.';

insert into outputs (seq, command_id, agent_id, attempt, stream, byte_offset, at, data)
    select seq, command_id, agent_id, attempt, stream, byte_offset, at, data from outputs_before;
drop table outputs_before;
