-- Workers that are long gone (aggregator/old_marks.py).

-- long_gone --
-- $1 before when their last mark moved, $2 how many at most
SELECT worker FROM billing.worker_marks GROUP BY worker HAVING max(updated_at) < $1 ORDER BY max(updated_at), worker LIMIT $2

-- forget --
-- $1 workers, $2 before when: one that shipped meanwhile is not gone
DELETE FROM billing.worker_marks m
WHERE m.worker = ANY ($1::text[])
    AND NOT EXISTS (SELECT FROM billing.worker_marks n WHERE n.worker = m.worker AND n.updated_at >= $2)
