-- Every atomic change of a run, in one script.
--
-- Called as   EVALSHA <sha> 1 te:{<run>}:run <operation> <arguments…>
-- All keys of a run share the hash tag {<run>}.
-- Every operation can be repeated after a lost answer without changing anything twice.
--
-- Keys of a run (P stands for `te:{<run>}:`)
--   P run        hash    record (JSON, RunRecord), schema, experiment, state, reason, size, queued, running, completed, failed,
--                        cancelled (members by state), open (entities that have not ended), efailed, ecancelled (entities that
--                        ended so), created, started, ended, keep, setup (token of the worker that sets up), setup_beat,
--                        cancel (the reason, once cancelled)
--   P members    hash    index -> JSON of the MemberRecord
--   P state      string  one byte a member: n new, q queued, a armed (holds a slot, waits for its peers), r running,
--                        c completed, f failed, x cancelled
--   P attempts   hash    index -> JSON of the latest attempt: a attempt, f failures, l losses, t fencing token, w worker,
--                        n node, p pid, s started, e ended (Unix seconds), c return code, y why, u CPUs, x why it is stopped,
--                        o token that has given its slot back
--   P lease      hash    index -> counter, for running and armed members only; their workers keep it moving
--   P delayed    zset    index -> when a retry is due (Unix milliseconds on the store's clock)
--   P events     stream  k kind, s state byte, i index, e entity, a attempt, c return code, r reason; the id carries the time
--   P e<n>       hash    entity n: name, first, size, state, reason, queued, running, completed, failed, cancelled, armed,
--                        stop (failures that stop it; 0: never), enough, together, after (how many entities it waits for),
--                        next (JSON list: who waits for it), templates (JSON list: of its members), cancel, rule (`stop` or
--                        `enough`, once that has cancelled it), started, ended
--   P asset:<h>  string  the bytes of the ML asset, or input file, with this SHA-256
--   P outputs    hash    index -> JSON of the OutputsRecord: what the member sent back where hosts share no file system; its
--                        bytes are in P content:<name> (string). Both by plain commands, and gone once the driver has collected
--   P secrets    hash    <template>:<variable> -> value of an environment variable that no record may show
-- Keys of all runs: te:runs, te:active and te:experiment:<name> (zsets, run -> created), to which this script adds a run in the
--   step that creates it, so that none is there which nobody looks at; and, written by plain commands, te:queues (hash, queue -> JSON),
--   te:workers (hash, name -> JSON), te:databases:<experiment> (hash), te:reaper (lock), te:reserved:<allocation> (set of nodes that
--   databases have).
-- te:gangs, zset, `<run> <entity>` -> when it may begin (Unix milliseconds): entities whose members run together and have not all
--   got their slots. Only the first of them takes slots, so that no two wait for each other's. Besides the run's own keys this script
--   touches only this one and those three; the control plane is one server.
-- Channel te:control: JSON orders to all workers, `{"order": "cancel", "run": …, "entity": n or null, "index": n or null}`,
--   `go` (an entity's members have all got their slots), `disarm` (they give them back), `gangs` (another one is first).

local RUN = KEYS[1]
local P = string.sub(RUN, 1, -4)
local NAME = string.match(P, '{(.*)}')
local COUNTER = { n = 'queued', q = 'queued', a = 'queued', r = 'running', c = 'completed', f = 'failed', x = 'cancelled' }
local EVENTS_KEPT = 500000
local GANGS = 'te:gangs'

local call = redis.call
local time = call('TIME')
local now_ms = tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)
local now = string.format('%.3f', now_ms / 1000)

local function entity_key(entity) return P .. 'e' .. entity end

local function state_of(index) return call('GETRANGE', P .. 'state', index, index) end

local function event(kind, ...)
    call('XADD', P .. 'events', 'MAXLEN', '~', EVENTS_KEPT, '*', 'k', kind, ...)
end

-- A lease's counter begins where that of no earlier attempt of the member has stood: an observer that missed the time between two
-- attempts would else take the second for the first, which has not moved for so long.
local function begin_lease(index)
    call('HSET', P .. 'lease', index, string.format('%.0f', now_ms))
end

-- Moves one member from one state to another: the byte and the counters of run and entity.
local function move(index, entity, from, to)
    call('SETRANGE', P .. 'state', index, to)
    local before, after = COUNTER[from], COUNTER[to]
    if before ~= after then
        local key = entity_key(entity)
        call('HINCRBY', RUN, before, -1)
        call('HINCRBY', RUN, after, 1)
        call('HINCRBY', key, before, -1)
        call('HINCRBY', key, after, 1)
    end
end

-- Members of the entity that can still change.
local function left(entity)
    local counts = call('HMGET', entity_key(entity), 'queued', 'running')
    return tonumber(counts[1]) + tonumber(counts[2])
end

local function attempt_of(index)
    local text = call('HGET', P .. 'attempts', index)
    if text then return cjson.decode(text) end
    return { a = 0, f = 0, l = 0 }
end

local function keep_attempt(index, attempt)
    call('HSET', P .. 'attempts', index, cjson.encode(attempt))
end

local function order(fields)
    fields.run = NAME
    call('PUBLISH', 'te:control', cjson.encode(fields))
end

-- Entities that run together take slots one after another.
local function gang(entity) return NAME .. ' ' .. string.format('%d', entity) end

local function leave_gangs(entity)
    if call('ZREM', GANGS, gang(entity)) == 1 then order({ order = 'gangs' }) end
end

-- Whether an entity is the one that takes slots now; it queues up if it is new.
local function may_arm(entity)
    call('ZADD', GANGS, 'NX', now_ms, gang(entity))
    local first = call('ZRANGE', GANGS, 0, 0, 'WITHSCORES')
    return first[1] == gang(entity) and tonumber(first[2]) <= now_ms
end

-- Once every member of an entity that can still run holds a slot, all of them run from here on.
local function go_if_all_armed(entity)
    local key = entity_key(entity)
    local fields = call('HMGET', key, 'armed', 'queued', 'first', 'size')
    local first = tonumber(fields[3])
    if tonumber(fields[1]) == 0 or fields[1] ~= fields[2] then return false end
    for peer = first, first + tonumber(fields[4]) - 1 do
        if state_of(peer) == 'a' then
            move(peer, entity, 'a', 'r')
            event('start', 'i', peer, 'e', entity, 'a', attempt_of(peer).a)
        end
    end
    call('HSET', key, 'armed', 0)
    leave_gangs(entity)
    order({ order = 'go', entity = tonumber(entity) })
    return true
end

-- Ends the run once every entity has: final state, expiry of all its keys.
local function end_run(state)
    local fields = call('HMGET', RUN, 'keep', 'reason', 'ended')
    if fields[3] then return end
    call('HSET', RUN, 'state', state, 'ended', now)
    event('run', 's', state, 'r', fields[2] or '')
    local keep = math.floor(tonumber(fields[1]) * 1000)
    call('DEL', P .. 'lease', P .. 'delayed')
    for _, part in ipairs({ 'run', 'members', 'state', 'attempts', 'events' }) do call('PEXPIRE', P .. part, keep) end
    local entities = tonumber(call('HGET', RUN, 'entities'))
    for entity = 0, entities - 1 do call('PEXPIRE', entity_key(entity), keep) end
    if state == 'c' then call('UNLINK', P .. 'secrets') else call('PEXPIRE', P .. 'secrets', keep) end
    local assets = call('HGET', RUN, 'assets')
    if assets then
        for _, digest in ipairs(cjson.decode(assets)) do
            -- What has not completed may be resumed, and needs them again.
            if state == 'c' then call('UNLINK', P .. 'asset:' .. digest) else call('PEXPIRE', P .. 'asset:' .. digest, keep) end
        end
    end
end

local close_entity

-- Cancels what of the entity has not begun; what runs is told over the channel.
local function cancel_entity(entity, reason)
    local key = entity_key(entity)
    local fields = call('HMGET', key, 'first', 'size', 'cancel', 'ended', 'together')
    if fields[3] or fields[4] then return end
    call('HSET', key, 'cancel', reason)
    if fields[5] == '1' then leave_gangs(entity) end
    local first, size = tonumber(fields[1]), tonumber(fields[2])
    local changed = 0
    for start = first, first + size - 1, 65536 do
        local last = math.min(start + 65536, first + size) - 1
        local bytes, count = string.gsub(call('GETRANGE', P .. 'state', start, last), '[nq]', 'x')
        if count > 0 then call('SETRANGE', P .. 'state', start, bytes) end
        changed = changed + count
    end
    if changed > 0 then
        call('HINCRBY', RUN, 'queued', -changed)
        call('HINCRBY', RUN, 'cancelled', changed)
        call('HINCRBY', key, 'queued', -changed)
        call('HINCRBY', key, 'cancelled', changed)
    end
    for _, index in ipairs(call('ZRANGE', P .. 'delayed', 0, -1)) do
        local number = tonumber(index)
        if number >= first and number < first + size then call('ZREM', P .. 'delayed', index) end
    end
    order({ order = 'cancel', entity = entity, reason = reason })
end

-- Closes an entity whose members have all ended. Adds to `released` the entities that may start now.
close_entity = function(entity, released)
    local key = entity_key(entity)
    local f = call('HMGET', key, 'ended', 'failed', 'cancelled', 'completed', 'enough', 'cancel', 'next', 'name', 'reason',
        'together')
    if f[1] or left(entity) > 0 then return end
    local failed, cancelled, completed, enough = tonumber(f[2]), tonumber(f[3]), tonumber(f[4]), tonumber(f[5])
    local state, reason = 'c', f[9] or ''
    if enough > 0 and completed >= enough then
        reason = completed .. ' of its members have completed, which was enough'
    elseif failed > 0 then
        state = 'f'
        if reason == '' then reason = failed .. (failed == 1 and ' member failed' or ' members failed') end
    elseif f[6] or cancelled > 0 then
        state = 'x'
        reason = f[6] or cancelled .. (cancelled == 1 and ' member was stopped' or ' members were stopped')
    end
    call('HSET', key, 'state', state, 'ended', now, 'reason', reason)
    if f[10] == '1' then leave_gangs(entity) end
    event('entity', 's', state, 'e', entity, 'r', reason)
    if state == 'f' then
        call('HINCRBY', RUN, 'efailed', 1)
        if (call('HGET', RUN, 'reason') or '') == '' then call('HSET', RUN, 'reason', f[8] .. ': ' .. reason) end
    elseif state == 'x' then
        call('HINCRBY', RUN, 'ecancelled', 1)
    end
    for _, dependent in ipairs(cjson.decode(f[7])) do
        if state == 'c' then
            if call('HINCRBY', entity_key(dependent), 'after', -1) == 0 then table.insert(released, dependent) end
        else
            cancel_entity(dependent, f[8] .. (state == 'f' and ' failed' or ' was cancelled'))
            close_entity(dependent, released)
        end
    end
    if call('HINCRBY', RUN, 'open', -1) == 0 then
        local ends = call('HMGET', RUN, 'efailed', 'ecancelled')
        end_run(tonumber(ends[1]) > 0 and 'f' or tonumber(ends[2]) > 0 and 'x' or 'c')
    end
end

local operations = {}

-- open <record> <schema> <experiment> <created> <keep> <assets JSON> <size> then for each entity:
--      <name> <first> <size> <stop> <enough> <together> <after> <next JSON> <templates JSON>
-- Creates the run; its members are there already, and are kept from here on. Answers 1, or 0 when the run exists.
operations.open = function()
    if call('EXISTS', RUN) == 1 then return 0 end
    local size, entities = tonumber(ARGV[8]), (#ARGV - 8) / 9
    call('HSET', RUN, 'record', ARGV[2], 'schema', ARGV[3], 'experiment', ARGV[4], 'created', ARGV[5], 'keep', ARGV[6],
        'assets', ARGV[7], 'size', size, 'state', 'n', 'queued', size, 'running', 0, 'completed', 0, 'failed', 0,
        'cancelled', 0, 'entities', entities, 'open', entities, 'efailed', 0, 'ecancelled', 0)
    for entity = 0, entities - 1 do
        local at = 8 + entity * 9
        call('HSET', entity_key(entity), 'name', ARGV[at + 1], 'first', ARGV[at + 2], 'size', ARGV[at + 3], 'stop', ARGV[at + 4],
            'enough', ARGV[at + 5], 'together', ARGV[at + 6], 'after', ARGV[at + 7], 'next', ARGV[at + 8], 'state', 'n',
            'templates', ARGV[at + 9], 'queued', ARGV[at + 3], 'running', 0, 'completed', 0, 'failed', 0, 'cancelled', 0, 'armed', 0)
    end
    call('SET', P .. 'state', string.rep('n', size))
    call('PERSIST', P .. 'members')
    call('PERSIST', P .. 'secrets')
    for _, digest in ipairs(cjson.decode(ARGV[7])) do call('PERSIST', P .. 'asset:' .. digest) end
    for _, list in ipairs({ 'te:runs', 'te:active', 'te:experiment:' .. ARGV[4] }) do call('ZADD', list, ARGV[5], NAME) end
    event('run', 's', 'n')
    return 1
end

-- setup <token> -> 'go' | 'taken' | 'done' | 'gone', record, counter of the setup's lease
-- The worker that got 'go' sets the run up; a repeated message finds the counter and waits for the reaper to judge.
operations.setup = function()
    local fields = call('HMGET', RUN, 'record', 'state', 'setup', 'schema')
    if not fields[1] then return { 'gone' } end
    if fields[2] ~= 'n' then return { 'done', fields[1] } end
    if fields[3] and fields[3] ~= '' and fields[3] ~= ARGV[2] then return { 'taken', fields[1] } end
    call('HSET', RUN, 'setup', ARGV[2])
    return { 'go', fields[1], call('HINCRBY', RUN, 'setup_beat', 1), fields[4] }
end

-- setup_beat <token> -> 1 while the token still sets the run up
operations.setup_beat = function()
    local fields = call('HMGET', RUN, 'setup', 'state')
    if fields[1] ~= ARGV[2] or fields[2] ~= 'n' then return 0 end
    call('HINCRBY', RUN, 'setup_beat', 1)
    return 1
end

-- setup_lost <counter>: the reaper has not seen the counter move for a lease; the next setup message is free to go.
operations.setup_lost = function()
    local fields = call('HMGET', RUN, 'setup_beat', 'state')
    if fields[2] ~= 'n' or (fields[1] or '') ~= ARGV[2] then return 0 end
    call('HDEL', RUN, 'setup')
    return 1
end

-- fail <reason>: the run fails as a whole before a member has started.
operations.fail = function()
    local fields = call('HMGET', RUN, 'ended', 'entities', 'state')
    if fields[1] or not fields[2] or fields[3] ~= 'n' then return 0 end
    call('HSET', RUN, 'reason', ARGV[2], 'cancel', ARGV[2])
    call('HINCRBY', RUN, 'efailed', 1)
    event('assets', 's', 'f', 'r', ARGV[2])
    for entity = 0, tonumber(fields[2]) - 1 do
        cancel_entity(entity, ARGV[2])
        close_entity(entity, {})
    end
    return 1
end

-- ready <token>: the assets are in place; the run is running. Answers 1, or 0 when the token no longer holds the setup.
operations.ready = function()
    local fields = call('HMGET', RUN, 'setup', 'state', 'cancel', 'ended')
    if fields[3] or fields[4] or fields[1] ~= ARGV[2] then return 0 end
    if fields[2] == 'n' then
        call('HSET', RUN, 'state', 'r', 'started', now)
        event('assets', 's', 'c')
        event('run', 's', 'r')
    end
    return 1
end

-- release <entity> -> 1 when its members are to be published now: they become queued
operations.release = function()
    local entity = ARGV[2]
    local key = entity_key(entity)
    local fields = call('HMGET', key, 'first', 'size', 'state', 'after', 'cancel')
    if call('HGET', RUN, 'state') ~= 'r' or fields[5] or tonumber(fields[4]) > 0 then return 0 end
    if fields[3] == 'n' then
        local first, size = tonumber(fields[1]), tonumber(fields[2])
        local bytes = string.gsub(call('GETRANGE', P .. 'state', first, first + size - 1), 'n', 'q')
        call('SETRANGE', P .. 'state', first, bytes)
        call('HSET', key, 'state', 'q')
        event('entity', 's', 'q', 'e', entity)
    elseif fields[3] ~= 'q' then
        return 0
    end
    return 1
end

-- claim <schema> <worker> <node> then for each member: <index> <entity> <token>
-- -> for each member: answer, attempt, failures before it, member's JSON. Answers: 'claimed', 'armed' (together: wait for the order to go),
--    'cancelled', 'taken', 'done', 'later' (its retry is not due, or the entity is not released), 'wait' (together: another entity
--    takes slots first), 'schema', 'gone'.
operations.claim = function()
    local run = call('HMGET', RUN, 'state', 'schema', 'cancel')
    local answers = {}
    for at = 5, #ARGV, 3 do
        local index, entity, token = ARGV[at], ARGV[at + 1], ARGV[at + 2]
        local answer, number, failures, member = nil, 0, 0, ''
        local key = entity_key(entity)
        local fields = call('HMGET', key, 'first', 'size', 'cancel', 'together', 'state')
        if not run[1] or not fields[1] then
            answer = 'gone'
        elseif run[2] ~= ARGV[2] then
            answer = 'schema'
        else
            local first, position = tonumber(fields[1]), tonumber(index)
            -- A number that the run does not have may be one that the server cannot take for an offset.
            local there = position >= first and position < first + tonumber(fields[2])
            local state = there and state_of(index)
            if not there then
                answer = 'gone'
            elseif state == 'x' or (state == 'q' and (run[3] or fields[3])) then
                answer = 'cancelled'
            elseif state == 'c' or state == 'f' then
                answer = 'done'
            elseif state == 'n' then
                answer = 'later'
            else
                local attempt = attempt_of(index)
                number, failures = attempt.a, attempt.f
                if state == 'r' or state == 'a' then
                    answer = attempt.t == token and (state == 'r' and 'claimed' or 'armed') or 'taken'
                else
                    local due = attempt.a > 0 and call('ZSCORE', P .. 'delayed', index)
                    if due and tonumber(due) > now_ms then
                        answer = 'later'
                    elseif fields[4] == '1' and not may_arm(entity) then
                        answer = 'wait'
                    else
                        if due then call('ZREM', P .. 'delayed', index) end
                        number = attempt.a + 1
                        attempt = { a = number, f = attempt.f, l = attempt.l, t = token, w = ARGV[3], n = ARGV[4], s = now_ms / 1000 }
                        keep_attempt(index, attempt)
                        begin_lease(index)
                        if fields[4] == '1' then
                            answer = 'armed'
                            move(index, entity, 'q', 'a')
                            call('HINCRBY', key, 'armed', 1)
                            if go_if_all_armed(entity) then answer = 'claimed' end
                        else
                            answer = 'claimed'
                            move(index, entity, 'q', 'r')
                            event('start', 'i', index, 'e', entity, 'a', number)
                        end
                        if fields[5] == 'q' then call('HSET', key, 'state', 'r', 'started', now) end
                    end
                end
                if answer == 'claimed' or answer == 'armed' then member = call('HGET', P .. 'members', index) end
            end
        end
        answers[#answers + 1] = answer
        answers[#answers + 1] = number
        answers[#answers + 1] = failures
        answers[#answers + 1] = member
    end
    return answers
end

-- disarm then for each member: <index> <entity> <token>: an armed member gives its slot back and waits again. -> how many
operations.disarm = function()
    local count = 0
    for at = 2, #ARGV, 3 do
        local index, entity = ARGV[at], ARGV[at + 1]
        if state_of(index) == 'a' then
            local attempt = attempt_of(index)
            if attempt.t == ARGV[at + 2] then
                attempt.a = attempt.a - 1
                attempt.t, attempt.o = nil, attempt.t
                keep_attempt(index, attempt)
                call('HDEL', P .. 'lease', index)
                call('HINCRBY', entity_key(entity), 'armed', -1)
                if attempt.x or call('HGET', entity_key(entity), 'cancel') then
                    move(index, entity, 'a', 'x')
                else
                    move(index, entity, 'a', 'q')
                end
                count = count + 1
            end
        end
    end
    return count
end

-- renew <worker> <node> then for each attempt: <index> <entity> <token> <attempt> <pid, 0: none yet, -1: it waits for its peers>
-- -> for each attempt: 'ok' (go on), 'armed' (wait on), 'stop' (cancelled), 'lost' (no longer this worker's)
-- An attempt that a restarted store has forgotten is taken back into the record.
operations.renew = function()
    local answers = {}
    local run = call('HMGET', RUN, 'state', 'cancel')
    for at = 4, #ARGV, 5 do
        local index, entity, token, number, pid = ARGV[at], ARGV[at + 1], ARGV[at + 2], tonumber(ARGV[at + 3]), tonumber(ARGV[at + 4])
        local answer = 'lost'
        if run[1] then
            local state, attempt = state_of(index), attempt_of(index)
            if state == 'q' and attempt.a < number and attempt.o ~= token then
                attempt = { a = number, f = attempt.f, l = attempt.l, t = token, w = ARGV[2], n = ARGV[3], s = now_ms / 1000 }
                move(index, entity, 'q', pid < 0 and 'a' or 'r')
                keep_attempt(index, attempt)
                begin_lease(index)
                if pid < 0 then
                    call('ZADD', GANGS, 'NX', now_ms, gang(entity))
                    call('HINCRBY', entity_key(entity), 'armed', 1)
                    go_if_all_armed(entity)
                end
                state = state_of(index)
            end
            if (state == 'r' or state == 'a') and attempt.t == token then
                call('HINCRBY', P .. 'lease', index, 1)
                if pid > 0 and attempt.p ~= pid then
                    attempt.p = pid
                    keep_attempt(index, attempt)
                end
                if run[2] or attempt.x or call('HGET', entity_key(entity), 'cancel') then
                    answer = 'stop'
                else
                    answer = state == 'r' and 'ok' or 'armed'
                end
            end
        end
        answers[#answers + 1] = answer
    end
    return answers
end

-- finish then for each attempt:
--      <index> <entity> <token> <outcome: c, f, x, or l for lost> <return code or ''> <reason> <seconds it ran> <retry delay or ''> <pid> <cpus>
-- -> for each attempt: 'ok' | 'retry' (publish it now) | 'delayed' | 'zero' (the entity's last: publish the completion) | 'stale'
-- A failure with a retry delay becomes the next attempt, unless it is cancelled by then. What fails after its cancellation is
-- cancelled, and so is what completes after enough have: the counts that a rule names are never exceeded. Such a member's record keeps
-- its return code, and says that it came later. A lost attempt (its worker ended, not the member's fault) runs again without costing
-- a retry, at most LOSSES times.
local LOSSES = 10
local function finish(arguments)
    local answers = {}
    for at = 2, #arguments, 10 do
        local index, entity, token, outcome = arguments[at], arguments[at + 1], arguments[at + 2], arguments[at + 3]
        local code, reason = arguments[at + 4], arguments[at + 5]
        local ran, delay = tonumber(arguments[at + 6]), arguments[at + 7]
        local state = state_of(index)
        local attempt = attempt_of(index)
        local answer = 'stale'
        if (state == 'r' or state == 'a') and attempt.t == token then
            local key = entity_key(entity)
            local fields = call('HMGET', key, 'cancel', 'stop', 'enough', 'rule')
            local cancelled = attempt.x or fields[1]
            if state == 'a' then call('HINCRBY', key, 'armed', -1) end
            attempt.e = now_ms / 1000
            attempt.s = attempt.e - ran
            attempt.c = tonumber(code)
            attempt.y = reason ~= '' and reason or nil
            if tonumber(arguments[at + 8]) > 0 then attempt.p = tonumber(arguments[at + 8]) end
            if arguments[at + 9] ~= '' then attempt.u = arguments[at + 9] end
            call('HDEL', P .. 'lease', index)
            if outcome == 'l' then
                attempt.l = attempt.l + 1
                if attempt.l >= LOSSES then
                    outcome = 'f'
                    attempt.y = reason .. '; it lost its worker ' .. attempt.l .. ' times'
                end
            end
            if cancelled then
                delay = ''
                if outcome == 'l' then outcome = 'x' end
                if outcome == 'x' and attempt.y == nil then attempt.y = cancelled end
                if outcome == 'f' or (outcome == 'c' and fields[4] == 'enough') then
                    attempt.y = 'it ' .. (outcome == 'c' and 'completed' or 'failed') .. ' after this: ' .. cancelled
                        .. (reason ~= '' and ' (' .. reason .. ')' or '')
                    outcome = 'x'
                end
            end
            if outcome == 'f' then attempt.f = attempt.f + 1 end
            if outcome == 'l' or (outcome == 'f' and delay ~= '') then
                attempt.t = nil
                keep_attempt(index, attempt)
                move(index, entity, state, 'q')
                event('retry', 'i', index, 'e', entity, 'a', attempt.a, 'c', code, 'r', attempt.y or '')
                answer = 'retry'
                if delay ~= '' and tonumber(delay) > 0 then
                    call('ZADD', P .. 'delayed', now_ms + math.ceil(tonumber(delay) * 1000), index)
                    answer = 'delayed'
                end
            else
                keep_attempt(index, attempt)
                move(index, entity, state, outcome)
                event('end', 's', outcome, 'i', index, 'e', entity, 'a', attempt.a, 'c', code, 'r', attempt.y or '')
                answer = 'ok'
                local stop, enough = tonumber(fields[2]), tonumber(fields[3])
                if outcome == 'f' and stop > 0 and not cancelled and tonumber(call('HGET', key, 'failed')) >= stop then
                    local name = call('HGET', key, 'name')
                    call('HSET', key, 'rule', 'stop')
                    cancel_entity(entity, name .. ' stops after ' .. stop .. (stop == 1 and ' failure' or ' failures'))
                elseif outcome == 'c' and enough > 0 and not cancelled and tonumber(call('HGET', key, 'completed')) >= enough then
                    call('HSET', key, 'rule', 'enough')
                    cancel_entity(entity, enough .. (enough == 1 and ' member has' or ' members have') .. ' completed, which is enough')
                end
                if left(entity) == 0 then answer = 'zero' elseif state == 'a' then go_if_all_armed(entity) end
            end
        end
        answers[#answers + 1] = answer
    end
    return answers
end
operations.finish = function() return finish(ARGV) end

-- lose then for each attempt: <index> <entity> <counter> <reason>: the observer has not seen the counter move for one lease.
-- -> for each: 'retry' (publish it now), 'zero', 'ok', or 'stale' when the counter has moved or the attempt has ended
operations.lose = function()
    local answers = {}
    for at = 2, #ARGV, 4 do
        local index, entity, counter, reason = ARGV[at], ARGV[at + 1], ARGV[at + 2], ARGV[at + 3]
        local answer = 'stale'
        if call('HGET', P .. 'lease', index) == counter then
            local attempt = attempt_of(index)
            local ran = math.max(0, now_ms / 1000 - (attempt.s or now_ms / 1000))
            answer = finish({ 'finish', index, entity, attempt.t, 'l', '', reason, tostring(ran), '', '0', '' })[1]
        end
        answers[#answers + 1] = answer
    end
    return answers
end

-- cancel <entity or ''> <reason> -> entities that ended with it, JSON. Repeating it changes nothing.
operations.cancel = function()
    local fields = call('HMGET', RUN, 'ended', 'entities', 'state', 'cancel')
    if not fields[2] then return -1 end
    if fields[1] then return 0 end
    local released = {}
    if ARGV[2] == '' then
        if not fields[4] then call('HSET', RUN, 'cancel', ARGV[3], 'reason', ARGV[3]) end
        for entity = 0, tonumber(fields[2]) - 1 do cancel_entity(entity, ARGV[3]) end
        for entity = 0, tonumber(fields[2]) - 1 do close_entity(entity, released) end
    else
        cancel_entity(tonumber(ARGV[2]), ARGV[3])
        close_entity(tonumber(ARGV[2]), released)
    end
    return 1
end

-- stop <reason> then for each member: <index> <entity>: what waits never starts, what runs is told to end, others go on.
-- -> for each: 'ok' | 'told' (it runs) | 'done' (it had ended)
operations.stop = function()
    local answers = {}
    for at = 3, #ARGV, 2 do
        local index, entity, answer = ARGV[at], ARGV[at + 1], 'done'
        local state, attempt = state_of(index), attempt_of(index)
        if state == 'n' or state == 'q' then
            attempt.y, attempt.e = ARGV[2], now_ms / 1000
            keep_attempt(index, attempt)
            call('ZREM', P .. 'delayed', index)
            move(index, entity, state, 'x')
            event('end', 's', 'x', 'i', index, 'e', entity, 'a', attempt.a, 'c', '', 'r', ARGV[2])
            if left(entity) == 0 then close_entity(tonumber(entity), {}) else go_if_all_armed(entity) end
            answer = 'ok'
        elseif state == 'r' or state == 'a' then
            if not attempt.x then
                attempt.x = ARGV[2]
                keep_attempt(index, attempt)
            end
            order({ order = 'cancel', entity = tonumber(entity), index = tonumber(index), reason = ARGV[2] })
            answer = 'told'
        end
        answers[#answers + 1] = answer
    end
    return answers
end

-- give_up <reason> then for each member: <index> <entity>: what has not begun has failed, because no worker can run it.
-- -> entities that have nothing left: publish their completion
operations.give_up = function()
    local ended = {}
    for at = 3, #ARGV, 2 do
        local index, entity = ARGV[at], ARGV[at + 1]
        local state = state_of(index)
        if state == 'q' or state == 'a' then
            local key, attempt = entity_key(entity), attempt_of(index)
            attempt.y, attempt.e, attempt.t = ARGV[2], now_ms / 1000, nil
            keep_attempt(index, attempt)
            call('ZREM', P .. 'delayed', index)
            call('HDEL', P .. 'lease', index)
            if state == 'a' then call('HINCRBY', key, 'armed', -1) end
            move(index, entity, state, 'f')
            event('end', 's', 'f', 'i', index, 'e', entity, 'a', attempt.a, 'c', '', 'r', ARGV[2])
            local fields = call('HMGET', key, 'stop', 'failed', 'name')
            local stop = tonumber(fields[1])
            if stop > 0 and tonumber(fields[2]) == stop then
                call('HSET', key, 'rule', 'stop')
                cancel_entity(tonumber(entity), fields[3] .. ' stops after ' .. stop .. (stop == 1 and ' failure' or ' failures'))
            end
            if left(entity) == 0 then ended[#ended + 1] = tonumber(entity) end
        end
    end
    return ended
end

-- yield <entity> <seconds>: members that have been holding slots for the others of their entity give them back, and it takes
-- none for so long.
operations.yield = function()
    local entity = tonumber(ARGV[2])
    local due = call('ZSCORE', GANGS, gang(entity))
    if not due or tonumber(due) > now_ms then return 0 end
    call('ZADD', GANGS, 'XX', now_ms + math.floor(tonumber(ARGV[3]) * 1000), gang(entity))
    order({ order = 'disarm', entity = entity })
    order({ order = 'gangs' })
    return 1
end

-- leave <entity>: an entity that has ended, or whose run is gone, takes slots no more.
operations.leave = function()
    leave_gangs(tonumber(ARGV[2]))
    return 1
end

-- complete <entity> -> JSON list of entities to release now; the entity is closed when nothing of it is left
operations.complete = function()
    local released = {}
    if call('EXISTS', entity_key(ARGV[2])) == 1 then close_entity(tonumber(ARGV[2]), released) end
    if #released == 0 then return '[]' end
    return cjson.encode(released)
end

-- due -> indices whose retry is due; they are to be published now
operations.due = function()
    local indices = call('ZRANGEBYSCORE', P .. 'delayed', '-inf', now_ms, 'LIMIT', 0, 1000)
    for _, index in ipairs(indices) do call('ZREM', P .. 'delayed', index) end
    return indices
end

return operations[ARGV[1]]()
