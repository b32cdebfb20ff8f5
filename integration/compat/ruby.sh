# Processes, threads, a web server of its own, Marshal and JSON.
packages='ruby ruby-webrick'
load() {
    ruby -rwebrick -rnet/http -rjson -e '
        server = WEBrick::HTTPServer.new(Port: 8080, BindAddress: "127.0.0.1", Logger: WEBrick::Log.new(File::NULL), AccessLog: [])
        server.mount_proc("/") { |req, res| res.body = JSON.generate(path: req.path, pid: $$) }
        thread = Thread.new { server.start }
        answers = 20.times.map { |i| Thread.new { JSON.parse(Net::HTTP.get(URI("http://127.0.0.1:8080/#{i}"))) } }.map(&:value)
        raise unless answers.map { |a| a["path"] }.sort == 20.times.map { |i| "/#{i}" }.sort
        server.shutdown; thread.join
        reader, writer = IO.pipe
        pids = 4.times.map { |i| fork { reader.close; writer.write(Marshal.dump(i)); exit!(i) } }
        raise unless pids.map { |p| Process.wait2(p)[1].exitstatus } == [0, 1, 2, 3]
        raise unless `id -u`.strip == "0"
        puts (1..2000).reduce(:*).to_s.size' | grep -qx 5736
}
