-- Several hosts share a PostgreSQL only; the number is kept so that both sets of files stay side by side.

select 1;
