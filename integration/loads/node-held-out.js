// UDP, watches, keys, pipes, a cluster, streams, timers.
const assert = require('assert'), fs = require('fs'), dgram = require('dgram'), net = require('net');
const crypto = require('crypto'), cluster = require('cluster'), os = require('os'), dns = require('dns');
const { pipeline } = require('stream/promises'), { spawn } = require('child_process');
if (cluster.isPrimary) {
  (async () => {
    const udp = dgram.createSocket('udp4');
    await new Promise((good) => udp.bind(0, '127.0.0.1', good));
    const heard = new Promise((good) => udp.once('message', good));
    udp.send('hello', udp.address().port, '127.0.0.1');
    assert.equal(String(await heard), 'hello');
    udp.close();
    fs.writeFileSync('/tmp/watched', 'a');
    const changed = new Promise((good) => { const watch = fs.watch('/tmp/watched', () => { watch.close(); good(); }); });
    fs.appendFileSync('/tmp/watched', 'b');
    await changed;
    const local = net.createServer((link) => link.pipe(link)).listen('/tmp/socket');
    await new Promise((good) => local.on('listening', good));
    const link = net.connect('/tmp/socket');
    link.write('ping');
    assert.equal(String(await new Promise((good) => link.once('data', good))), 'ping');
    link.destroy();
    local.close();
    crypto.generateKeyPairSync('ec', { namedCurve: 'P-256' });
    assert.equal(crypto.scryptSync('a', 'b', 32).length, 32);
    await pipeline(fs.createReadStream(process.execPath, { end: 4e6 }), crypto.createHash('sha256'), fs.createWriteStream('/tmp/hash'));
    await dns.promises.lookup('localhost');
    assert(os.cpus().length && os.networkInterfaces() && os.userInfo().username && os.loadavg());
    const child = spawn('/bin/cat', { stdio: 'pipe' });
    child.stdin.end('through');
    assert.equal(String(await new Promise((good) => child.stdout.once('data', good))), 'through');
    fs.symlinkSync('/etc/passwd', '/tmp/link'); fs.copyFileSync('/etc/passwd', '/tmp/copy'); fs.chmodSync('/tmp/copy', 0o600);
    fs.utimesSync('/tmp/copy', 1, 1); fs.truncateSync('/tmp/copy', 3); fs.mkdtempSync('/tmp/dir-');
    const worker = cluster.fork();
    await new Promise((good) => worker.on('exit', good));
    console.log('LOAD DONE');
  })();
} else {
  require('http').createServer(() => {}).listen(0, () => process.exit(0));
}
