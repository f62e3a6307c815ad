-- still_current for a batch that comes in columns: to take 32 records out of JSON costs the database half a millisecond, as
-- much as all its lookups. It answers with what the admission needs to go on; the tokens themselves do not pass through it.
-- The locks come first, and then the rows, by a snapshot that is younger than the locks (0001_guards.sql).
--
-- The function of 0005_revocations.sql stays for the instances of before, which run beside the new ones during an upgrade.
CREATE FUNCTION still_current(locks text[], key_ids text[], key_versions bigint[], client_ids text[],
  client_versions bigint[], owner_ids text[], owner_versions bigint[], organization_ids text[],
  organization_versions bigint[], delegation_ids text[], delegation_versions bigint[], kids text[],
  kid_versions bigint[], subject_jtis text[])
RETURNS TABLE (n bigint, client_id text, rate_limit integer)
LANGUAGE plpgsql VOLATILE AS $$
#variable_conflict use_column
DECLARE
  busy text[];
BEGIN
  busy := array(SELECT id FROM unnest(locks) AS id
    WHERE NOT pg_try_advisory_xact_lock_shared(x'73676e74'::integer, policy_lock(id)));
  RETURN QUERY
    SELECT a.n, a.client_id, c.rate_limit_per_minute
    FROM unnest(key_ids, key_versions, client_ids, client_versions, owner_ids, owner_versions, organization_ids,
      organization_versions, delegation_ids, delegation_versions, kids, kid_versions, subject_jtis)
      WITH ORDINALITY AS a (key_id, key_version, client_id, client_version, owner_id, owner_version, organization_id,
        organization_version, delegation_id, delegation_version, kid, kid_version, subject_jtis, n)
    CROSS JOIN LATERAL (
      SELECT rate_limit_per_minute FROM clients
      WHERE id = a.client_id AND version = a.client_version OFFSET 0
    ) c
    WHERE NOT busy && ARRAY[a.client_id, a.owner_id, a.organization_id, a.delegation_id, a.kid]
      AND a.key_version = (SELECT version FROM keys
        WHERE id = a.key_id AND (expires_at IS NULL OR expires_at > now()))
      AND a.owner_version = (SELECT version FROM organizations WHERE id = a.owner_id)
      AND a.organization_version = CASE WHEN a.organization_id = a.owner_id THEN a.owner_version
        ELSE (SELECT version FROM organizations WHERE id = a.organization_id) END
      AND a.kid_version = (SELECT version FROM signing_keys WHERE kid = a.kid)
      AND (a.delegation_id IS NULL
        OR a.delegation_version = (SELECT version FROM delegations WHERE id = a.delegation_id))
      AND (a.subject_jtis IS NULL
        OR NOT EXISTS (SELECT FROM revoked_tokens r WHERE r.jti = ANY (string_to_array(a.subject_jtis, ' '))));
END
$$;
