-- A saved group: an expression with a name, which other expressions take up as `@name`. Groups may name
-- groups; that none comes back to itself, and that none goes that another names, is seen to by the program
-- in the transaction that writes. `changed_at` is never the same for two states of one name.
create table target_groups (
    name text not null primary key,
    expr text not null,
    description text not null,
    created_by text not null,
    created_at integer not null,
    changed_by text not null,
    changed_at integer not null
) strict, without rowid;
