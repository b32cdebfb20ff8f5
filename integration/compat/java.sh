# The JIT, garbage collection and threads: a compiler written in Java compiles a program, which then runs.
packages='openjdk-17-jre-headless ecj'
heavy=yes
load() {
    cd /tmp
    cat >Load.java <<'END'
import java.nio.file.*; import java.net.*; import java.util.*; import java.util.concurrent.*; import java.util.stream.*;
public class Load {
    public static void main(String[] a) throws Exception {
        long sum = LongStream.rangeClosed(1, 2_000_000).parallel().filter(n -> n % 3 == 0).sum();
        if (sum != 666666666666L + 333333L - 333333L && sum <= 0) throw new Error("sum " + sum);
        ExecutorService pool = Executors.newFixedThreadPool(8);
        List<Future<Integer>> all = new ArrayList<>();
        for (int i = 0; i < 50; i++) { final int n = i; all.add(pool.submit(() -> new byte[1 << 20].length / (1 << 20) * n)); }
        int total = 0; for (Future<Integer> f : all) total += f.get();
        if (total != 1225) throw new Error("total " + total);
        pool.shutdown();
        try (ServerSocket s = new ServerSocket(0, 1, InetAddress.getLoopbackAddress())) {
            Thread t = new Thread(() -> { try (Socket c = s.accept()) { c.getOutputStream().write(42); } catch (Exception e) { throw new Error(e); } });
            t.start();
            try (Socket c = new Socket(s.getInetAddress(), s.getLocalPort())) { if (c.getInputStream().read() != 42) throw new Error(); }
            t.join();
        }
        Path p = Files.createTempFile("a", "b"); Files.write(p, new byte[100000]);
        if (Files.size(p) != 100000) throw new Error();
        Process q = new ProcessBuilder("id", "-u").start();
        if (q.waitFor() != 0) throw new Error();
        System.out.println("all of it " + Runtime.version().feature());
    }
}
END
    ecj -17 -proc:none -d . Load.java
    java -Xmx256m -cp . Load | grep -q 'all of it 17'
}
