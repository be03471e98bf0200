// A conversation of node-redis, in both versions of the protocol, or of ioredis with the node at the port that is given.
const assert = require('assert');
const { createClient } = require('redis');
const Redis = require('ioredis');

const library = process.argv[2];
const port = Number(process.argv[3]);
const hundred = [...Array(100).keys()];

async function nodeRedis(RESP) {
    const client = createClient({ url: `redis://127.0.0.1:${port}`, RESP, disableOfflineQueue: true });
    client.on('error', (error) => { throw error; });
    await client.connect();
    await client.del(['js', 'js2', 'jsn']);
    assert.equal(await client.set('js', '1'), 'OK');
    assert.equal(await client.get('js'), '1');
    assert.equal(await client.get('none'), null);
    assert.equal(await client.set('js', '2', { condition: 'NX' }), null);
    assert.equal(await client.set('js', '3', { expiration: { type: 'EX', value: 100 }, GET: true }), '1');
    assert((await client.ttl('js')) > 0);
    assert.equal(await client.persist('js'), 1);
    assert.equal(await client.incrBy('jsn', 42), 42);
    assert.equal(Number(await client.incrByFloat('jsn', 0.5)), 42.5);
    assert.equal(await client.mSet({ js2: 'x' }), 'OK');
    assert.deepEqual(await client.mGet(['js', 'js2', 'none']), ['3', 'x', null]);
    assert.equal(await client.append('js2', 'y'), 2);
    assert.equal(await client.getDel('js2'), 'xy');
    const keys = [];
    for await (const page of client.scanIterator({ MATCH: 'js*' })) keys.push(...[].concat(page));
    assert.deepEqual(keys.sort(), ['js', 'jsn']);
    const written = await Promise.all(hundred.map((n) => client.set(`pipe${n}`, `${n}`)));
    assert(written.every((answer) => answer === 'OK'));
    const read = await Promise.all(hundred.map((n) => client.get(`pipe${n}`)));
    assert.deepEqual(read, hundred.map(String));
    assert.equal(await client.del(hundred.map((n) => `pipe${n}`)), 100);
    await assert.rejects(client.multi().set('js', 'never').exec(), /not served/);
    assert.equal(await client.get('js'), '3', 'nothing of a refused transaction is done');
    const [version] = await client.sendCommand(['QGETV', 'js']);
    assert(await client.sendCommand(['QCAS', 'js', version, '4']));
    assert.equal(await client.sendCommand(['QCAS', 'js', version, '5']), null);
    await client.info();
    await client.del(['js', 'jsn']);
    await client.close();
}

async function ioredis(options) {
    const client = new Redis({ port, autoResendUnfulfilledCommands: false, maxRetriesPerRequest: 0, ...options });
    await client.del('io', 'ion', 'iob');
    assert.equal(await client.set('io', '1', 'EX', 100), 'OK');
    assert.equal(await client.set('io', '2', 'NX'), null);
    assert.equal(await client.incrby('ion', 5), 5);
    assert.deepEqual(await client.mget('io', 'none'), ['1', null]);
    const bytes = Buffer.from([0, 255, 10, 13]);
    await client.set('iob', bytes);
    assert.deepEqual(await client.getBuffer('iob'), bytes);
    const pipeline = client.pipeline();
    hundred.forEach((n) => pipeline.set(`pipe${n}`, n));
    hundred.forEach((n) => pipeline.get(`pipe${n}`));
    const answers = await pipeline.exec();
    assert(answers.every(([error]) => !error) && answers[150][1] === '50');
    await assert.rejects(client.multi().set('io', 'never').exec(), /not served/);
    assert.equal(await client.get('io'), '1', 'nothing of a refused transaction is done');
    await client.del('io', 'ion', 'iob', ...hundred.map((n) => `pipe${n}`));
    client.disconnect();
}

(async () => {
    const { version } = require(`${library}/package.json`);
    if (library === 'redis') {
        await nodeRedis(2);
        await nodeRedis(3);
        console.log('node-redis', version, 'is content in RESP2 and RESP3');
    } else {
        await ioredis({});
        await ioredis({ enableAutoPipelining: true });
        console.log('ioredis', version, 'is content');
    }
})().catch((error) => {
    console.error(error);
    process.exit(1);
});
