-- The first schema. The same tables as in migrations/sqlite, in PostgreSQL's own types: ids are uuid (made
-- by the host, so they sort by time), instants timestamptz, lists text[], documents that the database may
-- look into jsonb, documents that are only carried json (kept letter by letter).
--
-- Partial indexes spell the states out: the planner takes such an index only for queries that spell them
-- out the same way.

create table meta (
    key text primary key,
    value text not null
);
comment on table meta is
    'The installation itself, one row a fact: cluster_id, cluster_epoch, probe (rewritten to see whether the store takes writes).';

create table nodes (
    id uuid primary key,
    batch bigint not null,
    seen_at timestamptz not null
) with (fillfactor = 50);
comment on table nodes is
    'One start of one host. batch numbers its transactions and is set in each of them, so that a host whose connection '
    'broke in the middle of a commit finds out what became of it; seen_at is when it last wrote anything.';

create table event_counter (
    only_row boolean primary key default true check (only_row),
    last bigint not null
) with (fillfactor = 10);
insert into event_counter (last) values (0);
comment on table event_counter is
    'The number of the last event, in one row. It is raised in the transaction that stores the events and so stays locked '
    'until that has committed: numbers become visible in their order, without gaps, whichever host wrote them.';

create table agents (
    id uuid primary key,
    agent_id text not null unique,
    site text not null,
    status text not null generated always as (
        case when maintenance then 'maintenance' when session_open then 'online' else 'offline' end
    ) stored,
    capabilities text[] not null default '{}',
    version text not null default '',
    os text not null default '',
    kernel text not null default '',
    container_engine text,
    last_seen timestamptz,
    created_at timestamptz not null,
    updated_at timestamptz not null,
    connection_info jsonb not null default '{}',
    labels jsonb not null default '{}',
    public_key text not null,
    maintenance boolean not null default false,
    revoked_at timestamptz,
    node_id uuid,
    session_epoch bigint not null default 0,
    session_open boolean not null default false,
    maybe_sent boolean not null default false
) with (fillfactor = 70);
comment on table agents is
    'One enrolled machine, kept for ever: a revoked one still owns its name. agent_id is that unique name. labels are set at '
    'the host; connection_info holds what the agent said of itself at its last HELLO and has no column of its own. '
    'session_open says that a session was open when node_id last wrote about it.';

create table commands (
    id uuid primary key,
    correlation_id text not null,
    verb text not null,
    args jsonb not null,
    agent_targets text[] not null,
    actor jsonb not null,
    status text not null,
    priority text not null,
    created_at timestamptz not null,
    scheduled_at timestamptz,
    executed_at timestamptz,
    completed_at timestamptz,
    result jsonb,
    retry_count integer not null default 0,
    max_retries integer not null default 0,
    error_message text,
    start_by timestamptz not null,
    run_timeout_ms bigint not null,
    parent_id uuid,
    counts jsonb not null,
    plugin text not null,
    plugin_version text not null,
    plugin_digest text not null,
    traceparent text,
    summary text not null,
    target jsonb not null,
    terms jsonb not null
);
comment on table commands is
    'One accepted intent. status, counts (from state to number of invocations) and completed_at are kept in step with the '
    'invocations, in the same transaction. actor is {"name": …}, agent_targets the names of the agents it was resolved to, '
    'target what was asked, terms how it is delivered: clocks, retries, rollout. max_retries is attempts less one; '
    'parent_id is the command this one follows up.';
-- Lists run from the newest id down, by status or by verb; the usual priority needs no index, for it is
-- found on every page.
create index commands_status on commands (status, id);
create index commands_verb on commands (verb, id);
create index commands_priority on commands (priority, id) where priority <> 'normal';
create index commands_created on commands (created_at, id);

create table command_sites (
    site text not null,
    command_id uuid not null references commands (id),
    primary key (site, command_id)
);
comment on table command_sites is
    'At which sites a command has an invocation: what a caller who sees only some sites may list.';

create table invocations (
    command_id uuid not null references commands (id),
    agent_id uuid not null references agents (id),
    attempt integer not null,
    state text not null,
    reason text,
    turn bigint not null,
    start_by timestamptz not null,
    due_at timestamptz,
    cancel_requested_at timestamptz,
    created_at timestamptz not null,
    started_at timestamptz,
    changed_at timestamptz not null,
    agent_name text not null,
    site text not null,
    message text,
    summary text,
    parse_fault text,
    signature text not null,
    signed text not null,
    outcome json,
    result json,
    primary key (command_id, agent_id)
);
comment on table invocations is
    'One command on one agent, with the latest attempt inline. turn is its place in its agent''s queue: priority and '
    'acceptance as one number; due_at is when a held retry is tried again; signed and signature are what the agent is sent.';
-- Commands of one agent, newest first.
create index invocations_agent on invocations (agent_id, command_id);
-- What is not over, in queue order; its size is that of the present, not of history.
create index invocations_open on invocations (agent_id, turn, command_id)
    where state in ('held', 'queued', 'sent', 'accepted', 'running');
-- What its start deadline may still end.
create index invocations_deadline on invocations (start_by) where state in ('held', 'queued', 'sent');
-- What is lost when its agent stays away.
create index invocations_in_flight on invocations (agent_id, command_id) where state in ('sent', 'accepted', 'running');
-- What is tried again, and when.
create index invocations_due on invocations (due_at) where state = 'held' and reason = 'retry';
-- What a rollout has not let go yet.
create index invocations_held on invocations (command_id, agent_id) where state = 'held' and reason = 'rollout';

create table attempts (
    command_id uuid not null,
    agent_id uuid not null,
    attempt integer not null,
    state text not null,
    reason text,
    started_at timestamptz,
    changed_at timestamptz not null,
    message text,
    summary text,
    parse_fault text,
    outcome json,
    result json,
    primary key (command_id, agent_id, attempt),
    foreign key (command_id, agent_id) references invocations (command_id, agent_id)
);
comment on table attempts is 'Attempts that a later one has taken the place of; the latest is in invocations.';

create table outputs (
    seq bigint primary key,
    command_id uuid not null,
    agent_id uuid not null,
    attempt integer not null,
    stream text not null,
    byte_offset bigint not null,
    at timestamptz not null,
    data bytea not null check (length(data) > 0),
    unique (command_id, agent_id, attempt, stream, byte_offset),
    foreign key (command_id, agent_id) references invocations (command_id, agent_id)
);
comment on table outputs is
    'Bytes of one stream of one attempt, as they arrived; no byte is stored twice. seq is the place in the same order as that '
    'of events.';
create index outputs_command on outputs (command_id, seq);

create table events (
    seq bigint primary key,
    at timestamptz not null,
    kind text not null,
    command_id uuid,
    agent_id uuid,
    attempt integer,
    state text,
    reason text,
    status text,
    counts jsonb
);
comment on table events is
    'What was committed, in order; the cursor of every live stream. kind says which columns are set: state (command, agent, '
    'attempt, state, reason), status (command, status, counts), agent (agent, status).';
create index events_command on events (command_id, seq) where command_id is not null;

create table telemetry (
    id uuid primary key,
    agent_id text not null,
    timestamp timestamptz,
    cpu_usage double precision,
    memory_usage jsonb,
    disk_usage jsonb,
    load_average double precision[],
    container_count integer,
    service_status jsonb,
    network_stats jsonb,
    created_at timestamptz
);
comment on table telemetry is 'A report of one machine''s load.';
create index telemetry_agent on telemetry (agent_id, timestamp);

create table audit_logs (
    id bigint generated always as identity primary key,
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
    correlation_id text
);
comment on table audit_logs is
    'Who did what; a row is written in the same transaction as what it tells of. id counts up, with gaps where a transaction failed.';

create table users (
    id uuid primary key,
    name text not null unique,
    password_hash text not null,
    role text not null,
    token_version bigint not null,
    created_at timestamptz not null
);
comment on table users is 'One person or program that may log in. Tokens made under another token_version are void.';

create table grants (
    user_id uuid not null references users (id) on delete cascade,
    position integer not null,
    sites text[] not null,
    verbs text[] not null,
    effects text[] not null,
    primary key (user_id, position)
);
comment on table grants is 'Where a user may act and with what, in the order they were given.';

create table refresh_tokens (
    sha256 text primary key,
    user_id uuid not null references users (id) on delete cascade,
    family text not null,
    expires_at timestamptz not null,
    used_at timestamptz,
    ended_at timestamptz
);
comment on table refresh_tokens is 'One refresh token by its SHA-256. A family is one login; it ends as a whole.';
create index refresh_tokens_family on refresh_tokens (family);
create index refresh_tokens_user on refresh_tokens (user_id);
create index refresh_tokens_expiry on refresh_tokens (expires_at);

create table join_tokens (
    id uuid primary key,
    secret_sha256 text not null,
    site text not null,
    labels jsonb not null,
    created_by text not null,
    created_at timestamptz not null,
    expires_at timestamptz not null,
    used_at timestamptz,
    used_by uuid references agents (id),
    revoked_at timestamptz
);
comment on table join_tokens is 'A one-time permission to enrol, by its public half.';

create table idempotency (
    principal text not null,
    key text not null,
    request_sha256 text not null,
    status integer not null,
    location text,
    body text not null,
    created_at timestamptz not null,
    expires_at timestamptz not null,
    primary key (principal, key)
);
comment on table idempotency is
    'One kept reply under a caller''s Idempotency-Key: asked again with the same request, it is given again.';
create index idempotency_expiry on idempotency (expires_at);
