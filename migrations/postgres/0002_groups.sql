-- Saved groups. Whoever writes takes the table's lock first, so that two changes on two hosts are judged one
-- after the other; readers do not wait for it.
create table target_groups (
    name text collate "C" primary key,
    expr text not null,
    description text not null,
    created_by text not null,
    created_at timestamptz not null,
    changed_by text not null,
    changed_at timestamptz not null
);
comment on table target_groups is
    'A saved group: an expression with a name, which other expressions take up as @name. Groups may name groups; that none '
    'comes back to itself, and that none goes that another names, is seen to by the program in the transaction that writes. '
    'changed_at is never the same for two states of one name.';
