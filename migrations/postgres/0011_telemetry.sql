-- Telemetry in packed rows, partitioned so that forgetting is dropping. The table of 0001 was never written to.
-- Partitions are made by the host, ahead of time: by the day, of hours by 30 days, counted from 1970-01-01 UTC.

drop table telemetry;

create table telemetry (
    agent_id uuid not null,
    timestamp timestamptz not null,
    created_at timestamptz not null,
    report bytea not null,
    primary key (agent_id, timestamp)
) partition by range (timestamp);
comment on table telemetry is
    'A report of one machine''s load, as it came. report is what storage/src/packed.rs writes: every series with its number.';

create table telemetry_minutes (
    agent_id uuid not null,
    timestamp timestamptz not null,
    report bytea not null,
    primary key (agent_id, timestamp)
) partition by range (timestamp);
comment on table telemetry_minutes is
    'What is left of one machine''s reports of a minute: every series with least, most, sum, last and count.';

create table telemetry_hours (
    agent_id uuid not null,
    timestamp timestamptz not null,
    report bytea not null,
    primary key (agent_id, timestamp)
) partition by range (timestamp);
comment on table telemetry_hours is 'The same of an hour.';

create table telemetry_marks (
    level text primary key,
    until timestamptz not null
);
comment on table telemetry_marks is 'Up to where a level (minute, hour) is rolled up.';
