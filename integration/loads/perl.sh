# Files, processes, sockets, modules; held out: other modules.
prepare() {
    put /load/recorded.pl <<'END'
use strict; use warnings;
use File::Temp qw(tempdir); use File::Find; use File::Copy; use POSIX qw(:sys_wait_h strftime setlocale LC_ALL);
use Storable qw(store retrieve); use IO::Socket::INET; use Time::HiRes qw(usleep); use Fcntl qw(:flock);
my $dir = tempdir(CLEANUP => 1);
for my $n (1 .. 50) { open my $f, '>', "$dir/$n" or die; print $f "line $n\n" x 100; close $f; }
my $found = 0; find(sub { $found++ if -f }, $dir); die unless $found == 50;
copy("$dir/1", "$dir/copy") or die; rename "$dir/copy", "$dir/moved" or die; unlink "$dir/2" or die;
store({ a => [1 .. 100] }, "$dir/stored"); die unless retrieve("$dir/stored")->{a}[7] == 8;
open my $lock, '>', "$dir/lock" or die; flock $lock, LOCK_EX or die; truncate $lock, 100;
my $pid = fork // die; if (!$pid) { exit 7 } waitpid $pid, 0; die unless $? >> 8 == 7;
my $server = IO::Socket::INET->new(Listen => 5, LocalAddr => '127.0.0.1', LocalPort => 0, Proto => 'tcp') or die $!;
$pid = fork // die;
if (!$pid) { my $c = IO::Socket::INET->new(PeerAddr => '127.0.0.1', PeerPort => $server->sockport) or die; print $c "hello\n"; exit 0 }
my $client = $server->accept; die unless <$client> eq "hello\n"; wait;
local $SIG{ALRM} = sub { die "alarm\n" }; eval { alarm 1; select undef, undef, undef, 5; }; die unless $@ eq "alarm\n";
usleep 1000; strftime('%c', localtime); setlocale(LC_ALL, 'C');
my %seen; $seen{$_ % 97}++ for 1 .. 200000; my @sorted = sort { $seen{$a} <=> $seen{$b} } keys %seen;
my $text = join ' ', 1 .. 20000; my $count = () = $text =~ /(\d)\1/g; die unless $count;
system('/bin/true') == 0 or die; my $date = `/bin/date +%Y`; die unless $date > 2000;
print "LOAD DONE\n";
END
    put /load/held_out.pl <<'END'
use strict; use warnings;
use IO::Select; use Socket; use IPC::Open3; use Digest::SHA; use IO::Compress::Gzip qw(gzip); use IO::Uncompress::Gunzip qw(gunzip);
use Sys::Hostname; use Time::Piece; use Encode; use threads; use Thread::Queue; use IO::File; use DB_File (); use Cwd; use Benchmark;
use IPC::SysV qw(IPC_PRIVATE IPC_CREAT IPC_RMID S_IRUSR S_IWUSR); use I18N::Langinfo qw(langinfo CODESET); use Math::BigInt;
socketpair my $a, my $b, AF_UNIX, SOCK_STREAM, PF_UNSPEC or die; syswrite $a, "ping"; die unless IO::Select->new($b)->can_read(1);
my $pid = open3(my $in, my $out, undef, '/bin/cat'); print $in "hello\n"; close $in; die unless <$out> eq "hello\n"; waitpid $pid, 0;
my $data = 'x' x 500000; gzip \$data => \my $zip; gunzip \$zip => \my $back; die unless $back eq $data;
my $queue = Thread::Queue->new; my @threads = map { threads->create(sub { $queue->enqueue($_[0] ** 2) }, $_) } 1 .. 4; $_->join for @threads; die unless $queue->pending == 4;
my $id = shmget(IPC_PRIVATE, 4096, IPC_CREAT | S_IRUSR | S_IWUSR) // die; shmwrite $id, 'abc', 0, 3; shmctl $id, IPC_RMID, 0;
hostname(); getcwd(); localtime->strftime; langinfo(CODESET); getpwnam 'user'; gethostbyname 'localhost'; getpriority 0, 0; umask 022;
my $file = IO::File->new_tmpfile; print $file $data; seek $file, 0, 0; die unless -s $file >= 0; stat '/'; lstat '/bin'; readlink '/bin'; utime 1, 1, '/tmp'; chmod 01777, '/tmp';
mkdir '/tmp/d'; opendir my $d, '/tmp/d'; readdir $d; rmdir '/tmp/d'; symlink '/x', '/tmp/l'; link '/etc/passwd', '/tmp/hard'; pipe my $r, my $w; dup: open my $dup, '>&', $w;
die unless Digest::SHA->new(256)->add($data)->hexdigest; Math::BigInt->new(2)->bpow(500);
kill 'USR1', $$ if ($SIG{USR1} = sub { print "LOAD DONE\n" }); sleep 1;
END
}
