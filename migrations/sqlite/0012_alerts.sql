-- Alerts: what rules found wrong, what became of it, who is told. Instants are microseconds since 1970-01-01 UTC.

-- One alert for each rule, agent and key, for all the times it was wrong and well again. `agent_id` is zeros where it is
-- of no agent; `agent_name` and `site` are the agent's when it was last judged. `owner` is JSON {name, note, at}, `fired`
-- a JSON array of when it fired of late. Whoever writes names the `revision` it has read.
create table alerts (
    id blob not null primary key check (length(id) = 16),
    rule text not null,
    agent_id blob not null check (length(agent_id) = 16),
    key text not null,
    agent_name text not null,
    site text not null,
    state text not null,
    severity text,
    since integer not null,
    began integer not null,
    message text not null,
    value real,
    owner text,
    known integer not null,
    fired text not null,
    flapping integer not null,
    muted text,
    revision integer not null,
    unique (agent_id, rule, key)
) strict, without rowid;
create index alerts_live on alerts (id) where state <> 'resolved';
create index alerts_over on alerts (since) where state = 'resolved';

-- What became of an alert, line by line. `id` counts up.
create table alert_lines (
    id integer primary key,
    alert_id blob not null,
    at integer not null,
    what text not null,
    severity text,
    value real,
    message text not null,
    actor text,
    note text
) strict;
create index alert_lines_alert on alert_lines (alert_id, id);

-- What a rule has the host keep for an agent: text of a form that only the rule knows.
create table alert_states (
    agent_id blob not null check (length(agent_id) = 16),
    rule text not null,
    version integer not null,
    text text not null check (length(text) <= 65536),
    primary key (agent_id, rule)
) strict, without rowid;

-- Nobody is told of what a silence matches while it lasts. `matcher` is JSON.
create table silences (
    id blob not null primary key check (length(id) = 16),
    matcher text not null,
    from_at integer not null,
    until_at integer not null,
    created_by text not null,
    created_at integer not null,
    comment text not null
) strict, without rowid;
create index silences_until on silences (until_at);

-- Where people are told. `settings` is JSON; `secret` is encrypted, and is never shown. `told_up_to` is the last news
-- that was made a message, `told_at` when that was.
create table notification_channels (
    id blob not null primary key check (length(id) = 16),
    name text not null unique,
    settings text not null,
    secret text not null,
    created_by text not null,
    created_at integer not null,
    changed_by text not null,
    changed_at integer not null,
    told_up_to integer not null,
    told_at integer
) strict, without rowid;

-- News of alerts. `subject` is JSON: the alert as it was. `id` counts up.
create table alert_news (
    id integer primary key,
    at integer not null,
    subject text not null
) strict;

-- One message to one channel. `state` is waiting, sent or dead; `due_at` is when it is to be tried, or tried again.
create table notifications (
    id blob not null primary key check (length(id) = 16),
    channel_id blob not null,
    created_at integer not null,
    state text not null,
    due_at integer not null,
    attempts integer not null,
    body text not null,
    error text
) strict, without rowid;
create index notifications_due on notifications (due_at) where state = 'waiting';
create index notifications_channel on notifications (channel_id, id);

-- Which alert an event of the kind `alert` is about; its columns are agent, state, status (the severity) and reason (what
-- is told).
alter table events add column alert_id blob;
