-- What is known of plugins beyond their files. Instants are microseconds since 1970-01-01 UTC.

-- One plugin: whether people let it serve, and its versions, newest first, as a JSON array of
-- {digest, version, verbs, life, since, why, proven, grant, approved}.
create table plugins (
    name text not null primary key,
    file text not null,
    enabled integer not null,
    versions text not null
) strict, without rowid;

-- What happened to a plugin, by itself or because somebody wanted it. `id` counts up.
create table plugin_history (
    id integer primary key,
    at integer not null,
    plugin text not null,
    version text,
    digest text,
    from_state text,
    to_state text not null,
    why text,
    actor text
) strict;
create index plugin_history_plugin on plugin_history (plugin, id);
