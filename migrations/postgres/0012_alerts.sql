-- Alerts: what rules found wrong, what became of it, who is told.

create table alerts (
    id uuid primary key,
    rule text collate "C" not null,
    agent_id uuid not null,
    key text collate "C" not null,
    agent_name text not null,
    site text not null,
    state text not null,
    severity text,
    since timestamptz not null,
    began timestamptz not null,
    message text not null,
    value double precision,
    owner jsonb,
    known boolean not null,
    fired jsonb not null,
    flapping boolean not null,
    muted text,
    revision bigint not null,
    unique (agent_id, rule, key)
);
comment on table alerts is
    'One alert for each rule, agent and key, for all the times it was wrong and well again. agent_id is zeros where it is of '
    'no agent; agent_name and site are the agent''s when it was last judged. owner is {name, note, at}, fired an array of when '
    'it fired of late, in microseconds since 1970-01-01 UTC. Whoever writes names the revision it has read.';
create index alerts_live on alerts (id) where state <> 'resolved';
create index alerts_over on alerts (since) where state = 'resolved';

create table alert_lines (
    id bigint generated always as identity primary key,
    alert_id uuid not null,
    at timestamptz not null,
    what text not null,
    severity text,
    value double precision,
    message text not null,
    actor text,
    note text
);
comment on table alert_lines is 'What became of an alert, line by line.';
create index alert_lines_alert on alert_lines (alert_id, id);

create table alert_states (
    agent_id uuid not null,
    rule text collate "C" not null,
    version bigint not null,
    text text not null check (length(text) <= 65536),
    primary key (agent_id, rule)
);
comment on table alert_states is
    'What a rule has the host keep for an agent: text of a form that only the rule knows.';

create table silences (
    id uuid primary key,
    matcher jsonb not null,
    from_at timestamptz not null,
    until_at timestamptz not null,
    created_by text not null,
    created_at timestamptz not null,
    comment text not null
);
comment on table silences is 'Nobody is told of what a silence matches while it lasts.';
create index silences_until on silences (until_at);

create table notification_channels (
    id uuid primary key,
    name text collate "C" not null unique,
    settings jsonb not null,
    secret text not null,
    created_by text not null,
    created_at timestamptz not null,
    changed_by text not null,
    changed_at timestamptz not null,
    told_up_to bigint not null,
    told_at timestamptz
);
comment on table notification_channels is
    'Where people are told. secret is encrypted, and is never shown. told_up_to is the last news that was made a message, '
    'told_at when that was.';

create table alert_news (
    id bigint generated always as identity primary key,
    at timestamptz not null,
    subject jsonb not null
);
comment on table alert_news is 'News of alerts. subject is the alert as it was.';

create table notifications (
    id uuid primary key,
    channel_id uuid not null,
    created_at timestamptz not null,
    state text not null,
    due_at timestamptz not null,
    attempts integer not null,
    body text not null,
    error text
);
comment on table notifications is
    'One message to one channel. state is waiting, sent or dead; due_at is when it is to be tried, or tried again.';
create index notifications_due on notifications (due_at) where state = 'waiting';
create index notifications_channel on notifications (channel_id, id);

alter table events add column alert_id uuid;
comment on column events.alert_id is
    'Which alert an event of the kind alert is about; its columns are agent, state, status (the severity) and reason (what is '
    'told).';
