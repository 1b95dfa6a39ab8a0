-- Forms used in every table: ids are UUIDs as 16-byte blobs (half the size of text, and they compare
-- in order of time), instants are microseconds since 1970-01-01 UTC, JSON is text. Columns that grow
-- large stand last, so that reading the small ones never follows an overflow chain.

-- The installation itself, one row a fact: `cluster_id`, `cluster_epoch`, `probe` (rewritten to see
-- whether the store can be written to).
create table meta (
    key text not null primary key,
    value text not null
) strict, without rowid;

-- One enrolled machine, kept for ever: a revoked one still owns its name. `agent_id` is the agent's
-- unique name. `labels` are set at the host; `connection_info` holds what the agent said of itself
-- at its last HELLO and has no column of its own. `session_open` says that a session was open when
-- its host last wrote about it.
create table agents (
    id blob not null primary key check (length(id) = 16),
    agent_id text not null unique,
    site text not null,
    status text not null generated always as (
        case when maintenance then 'maintenance' when session_open then 'online' else 'offline' end
    ) virtual,
    capabilities text not null default '[]',
    version text not null default '',
    os text not null default '',
    kernel text not null default '',
    container_engine text,
    last_seen integer,
    created_at integer not null,
    updated_at integer not null,
    public_key text not null,
    maintenance integer not null default 0,
    revoked_at integer,
    session_epoch integer not null default 0,
    session_open integer not null default 0,
    maybe_sent integer not null default 0,
    labels text not null default '{}',
    connection_info text not null default '{}'
) strict;

-- One accepted intent. `status`, `counts` (a JSON object from state to number of invocations) and
-- `completed_at` are kept in step with the invocations, in the same transaction. `actor` is
-- {"name": …}, `agent_targets` the names of the agents it was resolved to, `target` what was asked,
-- `terms` how it is delivered: clocks, retries, rollout. `max_retries` is attempts less one; `parent_id`
-- is the command this one follows up.
create table commands (
    id blob not null primary key check (length(id) = 16),
    correlation_id text not null,
    verb text not null,
    status text not null,
    priority text not null,
    created_at integer not null,
    scheduled_at integer,
    executed_at integer,
    completed_at integer,
    retry_count integer not null default 0,
    max_retries integer not null default 0,
    start_by integer not null,
    run_timeout_ms integer not null,
    parent_id blob,
    counts text not null,
    plugin text not null,
    plugin_version text not null,
    plugin_digest text not null,
    actor text not null,
    traceparent text,
    summary text not null,
    error_message text,
    target text not null,
    terms text not null,
    args text not null,
    result text,
    agent_targets text not null
) strict;
-- Lists run from the newest id down, by status or by verb; the usual priority needs no index, for it
-- is found on every page.
create index commands_status on commands (status, id);
create index commands_verb on commands (verb, id);
create index commands_priority on commands (priority, id) where priority <> 'normal';
create index commands_created on commands (created_at, id);

-- At which sites a command has an invocation: what a caller who sees only some sites may list.
create table command_sites (
    site text not null,
    command_id blob not null references commands (id),
    primary key (site, command_id)
) strict, without rowid;

-- One command on one agent, with the latest attempt inline. `turn` is its place in its agent's queue:
-- priority and acceptance as one number; `due_at` is when a held retry is tried again. The three
-- generated columns are what the partial indexes below stand on; none of them is stored.
create table invocations (
    id integer primary key,
    command_id blob not null references commands (id),
    agent_id blob not null references agents (id),
    attempt integer not null,
    state text not null,
    reason text,
    turn integer not null,
    start_by integer not null,
    due_at integer,
    cancel_requested_at integer,
    created_at integer not null,
    started_at integer,
    changed_at integer not null,
    agent_name text not null,
    site text not null,
    is_open integer not null generated always as (
        state in ('held', 'queued', 'sent', 'accepted', 'running')
    ) virtual,
    awaits_start integer not null generated always as (state in ('held', 'queued', 'sent')) virtual,
    in_flight integer not null generated always as (state in ('sent', 'accepted', 'running')) virtual,
    message text,
    summary text,
    parse_fault text,
    signature text not null,
    signed text not null,
    outcome text,
    result text,
    unique (command_id, agent_id)
) strict;
-- Commands of one agent, newest first.
create index invocations_agent on invocations (agent_id, command_id);
-- What is not over, in queue order; its size is that of the present, not of history.
create index invocations_open on invocations (agent_id, turn, command_id) where is_open;
-- What its start deadline may still end.
create index invocations_deadline on invocations (start_by) where awaits_start;
-- What is lost when its agent stays away.
create index invocations_in_flight on invocations (agent_id, command_id) where in_flight;

-- What is tried again, and when.
create index invocations_due on invocations (due_at) where state = 'held' and reason = 'retry';
-- What a rollout has not let go yet.
create index invocations_held on invocations (command_id, agent_id) where state = 'held' and reason = 'rollout';

-- Attempts that a later one has taken the place of; the latest is in `invocations`.
create table attempts (
    command_id blob not null,
    agent_id blob not null,
    attempt integer not null,
    state text not null,
    reason text,
    started_at integer,
    changed_at integer not null,
    message text,
    summary text,
    parse_fault text,
    outcome text,
    result text,
    primary key (command_id, agent_id, attempt),
    foreign key (command_id, agent_id) references invocations (command_id, agent_id)
) strict;

-- Bytes of one stream of one attempt, as they arrived; no byte is stored twice. `seq` is the place in
-- the same order as that of `events`.
create table outputs (
    seq integer primary key,
    command_id blob not null,
    agent_id blob not null,
    attempt integer not null,
    stream text not null,
    byte_offset integer not null,
    at integer not null,
    data blob not null check (length(data) > 0),
    unique (command_id, agent_id, attempt, stream, byte_offset),
    foreign key (command_id, agent_id) references invocations (command_id, agent_id)
) strict;
create index outputs_command on outputs (command_id, seq);

-- What was committed, in order; the cursor of every live stream. `kind` says which columns are set:
-- `state` (command, agent, attempt, state, reason), `status` (command, status, counts), `agent`
-- (agent, status).
create table events (
    seq integer primary key,
    at integer not null,
    kind text not null,
    command_id blob,
    agent_id blob,
    attempt integer,
    state text,
    reason text,
    status text,
    counts text
) strict;
create index events_command on events (command_id, seq) where command_id is not null;

-- A report of one machine's load. `load_average` is a JSON array.
create table telemetry (
    id blob not null primary key check (length(id) = 16),
    agent_id text not null,
    timestamp integer,
    cpu_usage real,
    memory_usage text,
    disk_usage text,
    load_average text,
    container_count integer,
    service_status text,
    network_stats text,
    created_at integer
) strict;
create index telemetry_agent on telemetry (agent_id, timestamp);

-- Who did what; a row is written in the same transaction as what it tells of. `id` counts up.
create table audit_logs (
    id integer primary key,
    timestamp integer not null,
    level text not null,
    category text not null,
    action text not null,
    actor text,
    resource_type text,
    resource_id text,
    details text not null,
    ip_address text,
    user_agent text,
    correlation_id text
) strict;

-- One person or program that may log in. Tokens made under another `token_version` are void.
create table users (
    id blob not null primary key check (length(id) = 16),
    name text not null unique,
    password_hash text not null,
    role text not null,
    token_version integer not null,
    created_at integer not null
) strict;

-- Where a user may act and with what, in the order they were given; JSON arrays.
create table grants (
    user_id blob not null references users (id) on delete cascade,
    position integer not null,
    sites text not null,
    verbs text not null,
    effects text not null,
    primary key (user_id, position)
) strict, without rowid;

-- One refresh token by its SHA-256. A family is one login; it ends as a whole.
create table refresh_tokens (
    sha256 text not null primary key,
    user_id blob not null references users (id) on delete cascade,
    family text not null,
    expires_at integer not null,
    used_at integer,
    ended_at integer
) strict, without rowid;
create index refresh_tokens_family on refresh_tokens (family);
create index refresh_tokens_user on refresh_tokens (user_id);
create index refresh_tokens_expiry on refresh_tokens (expires_at);

-- A one-time permission to enrol, by its public half.
create table join_tokens (
    id blob not null primary key check (length(id) = 16),
    secret_sha256 text not null,
    site text not null,
    labels text not null,
    created_by text not null,
    created_at integer not null,
    expires_at integer not null,
    used_at integer,
    used_by blob references agents (id),
    revoked_at integer
) strict;

-- One kept reply under a caller's `Idempotency-Key`: asked again with the same request, it is given again.
create table idempotency (
    principal text not null,
    key text not null,
    request_sha256 text not null,
    status integer not null,
    location text,
    body text not null,
    created_at integer not null,
    expires_at integer not null,
    primary key (principal, key)
) strict, without rowid;
create index idempotency_expiry on idempotency (expires_at);
