-- What is known of plugins beyond their files.

create table plugins (
    name text primary key,
    file text not null,
    enabled boolean not null,
    versions jsonb not null
);
comment on table plugins is
    'One plugin: whether people let it serve, and its versions, newest first: {digest, version, verbs, life, since, why, proven, grant, approved}.';

create table plugin_history (
    id bigint generated always as identity primary key,
    at timestamptz not null,
    plugin text not null,
    version text,
    digest text,
    from_state text,
    to_state text not null,
    why text,
    actor text
);
comment on table plugin_history is
    'What happened to a plugin, by itself or because somebody wanted it. id counts up, with gaps where a transaction failed.';
create index plugin_history_plugin on plugin_history (plugin, id);
