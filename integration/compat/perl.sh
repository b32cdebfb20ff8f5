# Forks, pipes, sockets, threads, DBM files, a pattern over a large text.
packages='perl'
load() {
    cd /tmp
    perl -Mthreads -MThread::Queue -MIO::Socket::UNIX -MDB_File -MPOSIX -we '
        use strict;
        my $queue = Thread::Queue->new(1 .. 100); $queue->end;
        my @sums = map { threads->create(sub { my $s = 0; while (defined(my $n = $queue->dequeue)) { $s += $n } $s }) } 1 .. 4;
        my $sum = 0; $sum += $_->join for @sums; $sum == 5050 or die "sum $sum";
        my $server = IO::Socket::UNIX->new(Local => "/tmp/s", Listen => 1) or die;
        my $pid = fork // die; if (!$pid) { my $c = IO::Socket::UNIX->new(Peer => "/tmp/s") or die; print $c "hello\n"; exit 3 }
        my $line = readline $server->accept; $line eq "hello\n" or die; waitpid $pid, 0; $? >> 8 == 3 or die;
        tie my %db, "DB_File", "/tmp/db" or die; $db{$_} = $_ * 2 for 1 .. 2000; untie %db;
        tie %db, "DB_File", "/tmp/db" or die; $db{1000} == 2000 or die;
        my $text = "lorem ipsum " x 100000; my $count = () = $text =~ /\bip\w+/g; $count == 100000 or die;
        POSIX::mkfifo("/tmp/f", 0600) or die;
        $SIG{ALRM} = sub { print "alarmed\n" }; alarm 1; POSIX::pause();' | grep -q alarmed
}
