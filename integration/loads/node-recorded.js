// HTTP, files, threads, a child process, compression.
const assert = require('assert'), fs = require('fs'), http = require('http'), zlib = require('zlib');
const { Worker } = require('worker_threads'), { execFile } = require('child_process');
const promised = (start) => new Promise((good, bad) => start((error, value) => (error ? bad(error) : good(value))));
const get = (port) => new Promise((good) => http.get({ port, path: '/x' }, (answer) => {
  const parts = [];
  answer.on('data', (part) => parts.push(part)).on('end', () => good(Buffer.concat(parts)));
}));
(async () => {
  const body = Buffer.alloc(200000, 'lorem ipsum ');
  const server = http.createServer((_, answer) => answer.end(body)).listen(0, '127.0.0.1');
  await new Promise((good) => server.on('listening', good));
  for (let n = 0; n < 20; n++) assert((await get(server.address().port)).equals(body));
  server.close();
  fs.mkdirSync('/tmp/node/deep', { recursive: true });
  for (let n = 0; n < 50; n++) await fs.promises.writeFile(`/tmp/node/${n}`, body);
  assert.equal((await fs.promises.readdir('/tmp/node')).length, 51);
  await fs.promises.rename('/tmp/node/1', '/tmp/node/moved');
  await promised((done) => fs.stat('/tmp/node/moved', done));
  await fs.promises.rm('/tmp/node', { recursive: true });
  const zipped = await promised((done) => zlib.gzip(body, done));
  assert((await promised((done) => zlib.gunzip(zipped, done))).equals(body));
  await new Promise((good) => new Worker('let x = 0; for (let i = 0; i < 1e7; i++) x += i;', { eval: true }).on('exit', good));
  assert.equal(String(await promised((done) => execFile('/bin/echo', ['hi'], done))).trim(), 'hi');
  let sum = 0;
  for (let n = 0; n < 3e6; n++) sum += Math.sqrt(n) % 3;
  await new Promise((good) => setTimeout(good, 50));
  console.log('LOAD DONE', sum > 0);
})();
