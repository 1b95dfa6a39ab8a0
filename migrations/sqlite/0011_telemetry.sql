-- Telemetry in packed rows. Instants are microseconds since 1970-01-01 UTC. `block` is the number of the minute,
-- hour or day that holds `timestamp`: rows that come together stand together, and so do those that go together.
-- The table of 0001 was never written to.

drop table telemetry;

-- A report of one machine's load, as it came. `report` is what storage/src/packed.rs writes: every series with its number.
create table telemetry (
    block integer not null,
    agent_id blob not null check (length(agent_id) = 16),
    timestamp integer not null,
    created_at integer not null,
    report blob not null,
    primary key (block, agent_id, timestamp)
) strict, without rowid;

-- What is left of one machine's reports of a minute: every series with least, most, sum, last and count; block = hour.
create table telemetry_minutes (
    block integer not null,
    agent_id blob not null check (length(agent_id) = 16),
    timestamp integer not null,
    report blob not null,
    primary key (block, agent_id, timestamp)
) strict, without rowid;

-- The same of an hour; block = day.
create table telemetry_hours (
    block integer not null,
    agent_id blob not null check (length(agent_id) = 16),
    timestamp integer not null,
    report blob not null,
    primary key (block, agent_id, timestamp)
) strict, without rowid;

-- Up to where a level (`minute`, `hour`) is rolled up.
create table telemetry_marks (
    level text not null primary key,
    until integer not null
) strict, without rowid;
