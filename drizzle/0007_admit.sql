-- The admission as one function: its text is five thousand characters, which the driver would put together, and look up among
-- the statements it knows, for each batch anew. What it does is as before; instances of before go on sending the text.
--
-- The batch comes in columns, and its verdicts go back in one row: for each token that is not stale its place in the batch,
-- whether it is admitted, its client's limit and what remains of that.
CREATE FUNCTION admit(locks text[], key_ids text[], key_versions bigint[], client_ids text[], client_versions bigint[],
  owner_ids text[], owner_versions bigint[], organization_ids text[], organization_versions bigint[],
  delegation_ids text[], delegation_versions bigint[], kids text[], kid_versions bigint[], subject_jtis text[],
  jtis text[], issue_times bigint[], expiry_times bigint[], environments text[], scope_lists text[], audiences text[],
  client_ips inet[], request_ids text[])
RETURNS TABLE (verdicts integer[], reset_seconds integer)
LANGUAGE plpgsql VOLATILE AS $$
#variable_conflict use_column
BEGIN
  RETURN QUERY
  -- 1. The tokens that were judged by what still is, and will be until this has committed; n counts from 1.
  WITH fresh AS MATERIALIZED (
    SELECT *, row_number() OVER (PARTITION BY client_id ORDER BY n) AS place
    FROM still_current(locks, key_ids, key_versions, client_ids, client_versions, owner_ids, owner_versions,
      organization_ids, organization_versions, delegation_ids, delegation_versions, kids, kid_versions, subject_jtis)
  ),

  -- 2. The clients' windows, cut by this database's clock, locked in the order of client_id so that instances
  -- cannot deadlock. The row lock makes the limit exact across instances.
  per_client AS MATERIALIZED (
    SELECT client_id, rate_limit, count(*)::integer AS wanted FROM fresh GROUP BY client_id, rate_limit
  ),
  windows AS (
    INSERT INTO usage_minutes AS u (client_id, window_start, rate_limit, admitted, limited, last_admitted)
    SELECT client_id, date_trunc('minute', now()), rate_limit, least(wanted, rate_limit),
      wanted - least(wanted, rate_limit), least(wanted, rate_limit)
    FROM per_client ORDER BY client_id COLLATE "C"
    ON CONFLICT (client_id, window_start) DO UPDATE SET
      rate_limit = excluded.rate_limit,
      last_admitted = greatest(least(excluded.admitted + excluded.limited, excluded.rate_limit - u.admitted), 0),
      admitted = u.admitted
        + greatest(least(excluded.admitted + excluded.limited, excluded.rate_limit - u.admitted), 0),
      limited = u.limited + excluded.admitted + excluded.limited
        - greatest(least(excluded.admitted + excluded.limited, excluded.rate_limit - u.admitted), 0)
    RETURNING u.client_id, u.admitted, u.last_admitted
  ),
  judged AS MATERIALIZED (
    SELECT f.n, f.rate_limit, f.place <= w.last_admitted AS is_admitted,
      greatest(f.rate_limit - w.admitted + w.last_admitted - f.place, 0) AS remaining
    FROM fresh f JOIN windows w ON w.client_id = f.client_id
  ),

  -- 3. The ledger.
  recorded AS (
    INSERT INTO issued_tokens (jti, issued_at, expires_at, key_id, client_id, organization_id, environment, scopes,
      audience, kid, client_ip, request_id, subject_jtis)
    SELECT jti, to_timestamp(issued_at), to_timestamp(expires_at), key_id, client_id, organization_id, environment,
      string_to_array(scopes, ' '), audience, kid, client_ip, request_id, string_to_array(subject_jtis, ' ')
    FROM unnest(jtis, issue_times, expiry_times, key_ids, client_ids, organization_ids, environments, scope_lists,
        audiences, kids, client_ips, request_ids, subject_jtis)
      WITH ORDINALITY AS asked (jti, issued_at, expires_at, key_id, client_id, organization_id, environment, scopes,
        audience, kid, client_ip, request_id, subject_jtis, n)
    WHERE n IN (SELECT n FROM judged WHERE is_admitted)
  )

  -- 4. What is not in the answer is stale.
  SELECT array_agg(ARRAY[n::integer, is_admitted::integer, rate_limit, remaining::integer]),
    ceil(extract(epoch FROM date_trunc('minute', now()) + interval '1 minute' - now()))::integer
  FROM judged;
END
$$;
