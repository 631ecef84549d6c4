-- The spans under the names of the table `otel_traces` that the OpenTelemetry Collector's ClickHouse
-- exporter makes, so that what was written for that table can be used. An event that did not end has
-- the duration 0.

-- Entries whose value is known, as a map.
CREATE MACRO known_texts(entries) AS
    map_from_entries([entry FOR entry IN entries IF entry.value IS NOT NULL]);

-- A JSON object as a map of texts: text as it is, anything else as JSON writes it.
CREATE MACRO texts_of_object(object) AS
    map_from_entries([
        {'key': entry.key, 'value': coalesce(entry.value ->> '$', '')}
        FOR entry IN map_entries(CAST(CAST(coalesce(object, '{}') AS JSON) AS MAP(VARCHAR, JSON)))
        IF entry.key NOT IN (
            'otel.events',
            'otel.status_code',
            'otel.status_description',
            'otel.scope.version',
            'otel.dropped_counts',
            'otel.link_attributes',
            'otel.link_trace_states'
        )
    ]);

-- All numbers that lie in columns, by the keys of their attributes.
CREATE MACRO texts_of_numbers(
    layout, exact_numbers, quantity, price, commission, open, high, low, bid, ask, bid_size, ask_size,
    strength, value_1, value_2, value_3, value_4, value_5
) AS
    map_from_entries([
        {
            'key': part[1],
            'value': json_extract_string(
                json_of_number(
                    CASE part[2]
                        WHEN 'quantity' THEN quantity
                        WHEN 'price' THEN price
                        WHEN 'commission' THEN commission
                        WHEN 'open' THEN open
                        WHEN 'high' THEN high
                        WHEN 'low' THEN low
                        WHEN 'bid' THEN bid
                        WHEN 'ask' THEN ask
                        WHEN 'bid_size' THEN bid_size
                        WHEN 'ask_size' THEN ask_size
                        WHEN 'strength' THEN strength
                        WHEN 'value_1' THEN value_1
                        WHEN 'value_2' THEN value_2
                        WHEN 'value_3' THEN value_3
                        WHEN 'value_4' THEN value_4
                        WHEN 'value_5' THEN value_5
                    END,
                    part[3],
                    CAST(part[4] AS INTEGER),
                    json_extract_string(exact_numbers, part[2])
                ),
                '$'
            )
        }
        FOR part IN from_json(coalesce(layout, '[]'), '[["VARCHAR"]]')
    ]);

CREATE MACRO objects_at(attributes, key) AS
    coalesce(TRY_CAST(json_extract(attributes, '$."' || key || '"') AS JSON[]), []);

CREATE VIEW otel_traces AS
SELECT
    make_timestamp_ns(start_time) AS "Timestamp",
    lower(hex(trace_id)) AS "TraceId",
    lower(hex(span_id)) AS "SpanId",
    -- A cause in another trace is a link, and no parent.
    CASE
        WHEN root_sequence = sequence AND list_bool_or([
            link.span_id = parent_span_id AND link.trace_id <> raw_spans.trace_id
            FOR link IN coalesce(links, [])
        ]) THEN ''
        ELSE coalesce(lower(hex(parent_span_id)), '')
    END AS "ParentSpanId",
    coalesce(trace_state, '') AS "TraceState",
    name AS "SpanName",
    upper(left(span_kind, 1)) || lower(substr(span_kind, 2)) AS "SpanKind",
    coalesce(raw_spans.service_name, '') AS "ServiceName",
    map_concat(
        known_texts([
            {'key': 'service.name', 'value': raw_spans.service_name},
            {
                'key': 'service.namespace',
                'value': CASE WHEN root_sequence IS NOT NULL THEN 'fillpath' END
            },
            {
                'key': 'service.instance.id',
                'value': CASE WHEN root_sequence IS NOT NULL THEN raw_spans.run_id END
            },
            {'key': 'host.name', 'value': raw_spans.host_name},
            {'key': 'trading.run.id', 'value': raw_spans.run_id},
            {'key': 'trading.run.mode', 'value': runs.mode},
            {'key': 'trading.portfolio.namespace', 'value': portfolio}
        ]),
        texts_of_object(resource_attributes)
    ) AS "ResourceAttributes",
    coalesce(scope_name, '') AS "ScopeName",
    coalesce(attribute_text(attributes, 'otel.scope.version'), '') AS "ScopeVersion",
    map_concat(
        known_texts([
            {'key': 'trading.event.type', 'value': nullif(event_type, 'SPAN')},
            {
                'key': 'trading.event.sequence',
                'value': CASE WHEN root_sequence IS NOT NULL THEN CAST(sequence AS VARCHAR) END
            },
            {'key': 'trading.event.time_unix_nano', 'value': CAST(event_time AS VARCHAR)},
            {'key': 'messaging.message.conversation_id', 'value': correlation_id},
            {'key': 'trading.handler.name', 'value': handler},
            {'key': 'trading.portfolio.namespace', 'value': portfolio},
            {'key': 'trading.strategy.id', 'value': strategy},
            {'key': 'trading.instrument.symbol', 'value': symbol},
            {'key': 'trading.venue.mic', 'value': venue},
            {'key': 'trading.order.id', 'value': order_id},
            {'key': 'trading.order.client_id', 'value': client_order_id},
            {'key': 'trading.order.side', 'value': side},
            {'key': 'trading.order.type', 'value': order_type},
            {'key': 'trading.order.status', 'value': raw_spans.status},
            {'key': 'trading.fill.id', 'value': fill_id},
            {'key': 'trading.fill.currency', 'value': currency},
            {'key': 'trading.position.id', 'value': position_id},
            {'key': 'trading.sampling.reason', 'value': sampling_reason},
            {
                'key': 'trading.sampling.probability',
                'value': CAST(sampling_probability AS VARCHAR)
            }
        ]),
        texts_of_numbers(
            layout, exact_numbers, quantity, price, commission, open, high, low, bid, ask, bid_size,
            ask_size, strength, value_1, value_2, value_3, value_4, value_5
        ),
        texts_of_object(attributes)
    ) AS "SpanAttributes",
    CAST(greatest(coalesce(duration, 0), 0) AS UBIGINT) AS "Duration",
    CASE
        WHEN status_code = 'ERROR' THEN 'Error'
        WHEN attribute_text(attributes, 'otel.status_code') = 'OK' THEN 'Ok'
        ELSE 'Unset'
    END AS "StatusCode",
    coalesce(status_message, attribute_text(attributes, 'otel.status_description'), '')
        AS "StatusMessage",
    [
        make_timestamp_ns(CAST(event ->> '$.time_unix_nano' AS BIGINT))
        FOR event IN objects_at(attributes, 'otel.events')
    ] AS "Events.Timestamp",
    [event ->> '$.name' FOR event IN objects_at(attributes, 'otel.events')] AS "Events.Name",
    [
        texts_of_object(event -> '$.attributes') FOR event IN objects_at(attributes, 'otel.events')
    ] AS "Events.Attributes",
    [lower(hex(link.trace_id)) FOR link IN coalesce(links, [])] AS "Links.TraceId",
    [lower(hex(link.span_id)) FOR link IN coalesce(links, [])] AS "Links.SpanId",
    [
        coalesce(objects_at(attributes, 'otel.link_trace_states')[place] ->> '$', '')
        FOR place IN range(1, len(coalesce(links, [])) + 1)
    ] AS "Links.TraceState",
    [
        texts_of_object(objects_at(attributes, 'otel.link_attributes')[place])
        FOR place IN range(1, len(coalesce(links, [])) + 1)
    ] AS "Links.Attributes"
FROM raw_spans
LEFT JOIN runs ON runs.run_id = raw_spans.run_id
