# A web server and its clients, worker threads, child processes, files, compression, a watch.
packages='nodejs'
heavy=yes
load() {
    cd /tmp
    cat >load.js <<'END'
const http = require('http'), fs = require('fs'), zlib = require('zlib'), assert = require('assert');
const { Worker, isMainThread, parentPort } = require('worker_threads');
const { execFileSync, fork } = require('child_process');
if (!isMainThread) { let n = 0; for (let i = 0; i < 1e6; i++) n += i; parentPort.postMessage(n); }
else if (process.argv[2] === 'child') { process.send({ uid: process.getuid() }); process.disconnect(); }
else (async () => {
    const server = http.createServer((q, r) => q.pipe(zlib.createGzip()).pipe(r)).listen(8080, '127.0.0.1');
    const post = (n) => new Promise((done) => {
        const q = http.request({ port: 8080, host: '127.0.0.1', method: 'POST' }, (r) => {
            const parts = []; r.on('data', (p) => parts.push(p)).on('end', () => done(zlib.gunzipSync(Buffer.concat(parts)).length));
        }); q.end('x'.repeat(n));
    });
    assert.deepStrictEqual(await Promise.all([1, 10, 100000].map(post)), [1, 10, 100000]);
    server.close();
    const workers = [1, 2, 3].map(() => new Promise((done) => new Worker(__filename).on('message', done)));
    assert.deepStrictEqual(await Promise.all(workers), [499999500000, 499999500000, 499999500000]);
    const child = fork(__filename, ['child']);
    assert.strictEqual((await new Promise((done) => child.on('message', done))).uid, 0);
    assert.strictEqual(execFileSync('cat', { input: 'in' }).toString(), 'in');
    const seen = new Promise((done) => { const w = fs.watch('/tmp', (e, name) => { if (name === 'watched') { w.close(); done(); } }); });
    await fs.promises.writeFile('/tmp/watched', 'x'.repeat(1e6)); await seen;
    assert.strictEqual((await fs.promises.stat('/tmp/watched')).size, 1e6);
    console.log('all of it');
})();
END
    node load.js | grep -q 'all of it'
}
