package dev.kogge.test;

import dev.kogge.Artifact;
import dev.kogge.FetchRequest;
import dev.kogge.Kogge;
import dev.kogge.KoggeConfig;
import dev.kogge.KoggeEvents;
import dev.kogge.KoggeException;
import dev.kogge.KoggeFuture;
import dev.kogge.KoggeNode;
import dev.kogge.KoggeStatus;
import dev.kogge.LogLine;
import dev.kogge.LogQuery;
import java.lang.System.Logger.Level;
import java.net.URL;
import java.net.URLClassLoader;
import java.nio.ByteBuffer;
import java.nio.file.Files;
import java.nio.file.Path;
import java.time.Duration;
import java.util.List;
import java.util.Map;
import java.util.concurrent.CopyOnWriteArrayList;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.atomic.AtomicInteger;
import java.util.concurrent.atomic.AtomicReference;

/** Nodes, from opening to closing. The program runs all tests; arguments choose some by name. */
final class KoggeTest extends Claims {
    KoggeTest(Scene scene) {
        super(scene);
    }

    public static void main(String[] names) throws Throwable {
        Scene scene = new Scene();
        int passed = 0;
        for (Claims claims : List.of(new KoggeTest(scene), new FetchTest(scene),
                new LogTest(scene))) {
            passed += claims.run(List.of(names));
        }
        check(passed != 0, "no such test");
        System.out.println("passed " + passed);
    }

    void claimANodeOpensBecomesLiveAnswersAndCloses() throws Exception {
        KoggeNode node = scene.node("first");
        Map<String, Object> status = Json.object(node.status().await(Scene.LIMIT));
        check(status.containsKey("log"), status);
        check(node.id().matches("[0-9a-f]{64}"), node.id());
        check(node.query("peers", "").await().startsWith("["), "peers");
        fails(KoggeStatus.UNSUPPORTED, () -> node.query("weather", "").await());
        fails(KoggeStatus.BUSY, () -> KoggeNode.open(scene.alone("first")).close());
        try (KoggeNode second = scene.node("second")) {
            check(!second.id().equals(node.id()), "two nodes in one process are two");
        }
        Artifact open = node.fetch(request(scene.artifact("small"))).await();
        LogQuery query = node.queryLog("kind=add-artifact");
        KoggeEvents events = node.events("");
        node.close();
        node.close();
        node.closeAsync().get();
        for (Body use : List.<Body>of(() -> node.status().await(), () -> node.live().await(),
                () -> node.resolve("org.example:lib:1"), node::id, node::checkpoint,
                () -> node.fetchBytes(FetchRequest.of("org.example:lib:1")).await(),
                () -> node.queryLog(""), () -> node.events(""), () -> node.stat("sha256:00"),
                () -> open.read(0, ByteBuffer.allocate(1)), query::nextPage)) {
            fails(KoggeStatus.CLOSED, use);
        }
        fails(KoggeStatus.END, () -> {
            while (events.next(Duration.ofSeconds(5)).isPresent()) {
                continue;
            }
        });
        open.close();
        query.close();
        events.close();
        fails(KoggeStatus.CLOSED, () -> open.read(0, ByteBuffer.allocate(1)));
        fails(KoggeStatus.CLOSED, query::nextPage);
        fails(KoggeStatus.CLOSED, () -> events.next(Duration.ZERO));
        try (KoggeNode again = KoggeNode.open(scene.config("first").stored())) {
            check(!again.id().isEmpty(), "the folder keeps its network");
        }
    }

    void claimWrongConfigurationsAreToldWhenTheNodeIsOpened() throws Exception {
        check(fails(KoggeStatus.INVALID_ARGUMENT,
                () -> KoggeNode.open(scene.alone("wrong").set("no_such_key", 1)).close())
                .getMessage().contains("no_such_key"), "the key is named");
        fails(KoggeStatus.INVALID_ARGUMENT,
                () -> KoggeNode.open(scene.alone("wrong").toml("= 1")).close());
        fails(KoggeStatus.INVALID_ARGUMENT,
                () -> KoggeNode.open(scene.alone("wrong").genesis(new byte[3])).close());
        fails(KoggeStatus.INVALID_ARGUMENT,
                () -> KoggeNode.open(scene.alone("wrong").set("a..b", "c")).close());
        Path file = Files.createFile(scene.folder.resolve("a-file"));
        KoggeException notFolder = null;
        try {
            KoggeNode.open(scene.alone("a-file")).close();
        } catch (KoggeException e) {
            notFolder = e;
        }
        check(notFolder != null && Files.isRegularFile(file), "a file is no data folder");
    }

    void claimForgottenNodesAreClosedByTheCollector() throws Exception {
        for (int i = 0; i < 3; i++) {
            KoggeNode node = scene.node("forgotten");
            Artifact artifact = node.fetch(request(scene.artifact("small"))).await();
            check(artifact.size() == 100_001, artifact.size());
            node.queryLog("kind=add-artifact").nextPage();
            node.events("committed");
            node = null;
            artifact = null;
            // The next round opens the same folder, so the node must really be gone.
            waitForNoHandles("forgotten");
        }
    }

    void claimAnOpenThatIsCancelledLeavesNothing() throws Exception {
        for (int i = 0; i < 20; i++) {
            KoggeFuture<KoggeNode> opening = KoggeNode.openAsync(scene.alone("cancelled-" + i));
            if (i % 2 == 1) {
                Thread.sleep(i);
            }
            if (!opening.cancel(true)) {
                opening.get().close();
            }
            check(opening.isDone(), "cancelled futures are done");
        }
    }

    void claimAnotherClassLoaderGetsALibraryOfItsOwn() throws Exception {
        URL jar = Kogge.class.getProtectionDomain().getCodeSource().getLocation();
        check(jar.getPath().endsWith(".jar"), jar);
        ClassLoader parent = ClassLoader.getPlatformClassLoader();
        try (URLClassLoader other = new URLClassLoader(new URL[] {jar}, parent)) {
            Class<?> kogge = other.loadClass("dev.kogge.Kogge");
            check(kogge != Kogge.class, "another class");
            equal(Kogge.version(), kogge.getMethod("version").invoke(null));
            equal(0L, kogge.getMethod("liveHandles").invoke(null));
        }
    }
    void claimTheLogGoesToItsConsumerUpToALevel() throws Exception {
        List<LogLine> lines = new CopyOnWriteArrayList<>();
        KoggeConfig config = scene.config("log").log(Level.DEBUG, line -> {
            equal("kogge-log", Thread.currentThread().getName());
            lines.add(line);
        });
        try (KoggeNode node = KoggeNode.open(config)) {
            node.live().await(Scene.LIMIT);
            waitUntil("lines", () -> { }, () -> lines.size() > 1);
        }
        waitForNoReader();
        for (LogLine line : lines) {
            check(line.level().getSeverity() >= Level.DEBUG.getSeverity(), line);
            check(!line.target().isEmpty() && !line.message().isEmpty(), line);
        }
        check(lines.stream().anyMatch(it -> it.target().startsWith("kogge")), lines);

        lines.clear();
        try (KoggeNode node = KoggeNode.open(scene.config("log").log(Level.OFF, lines::add))) {
            node.live().await(Scene.LIMIT);
        }
        waitForNoReader();
        equal(List.of(), lines);
        fails(KoggeStatus.INVALID_ARGUMENT, () -> KoggeNode.open(scene.config("log")
                .log(Level.ALL, lines::add).set("no_such_key", 1)));
        waitForNoReader();
    }

    void claimAConsumerOfTheLogThatThrowsGetsTheNextLine() throws Exception {
        AtomicInteger thrown = new AtomicInteger();
        Thread.setDefaultUncaughtExceptionHandler((thread, e) -> {
            thrown.incrementAndGet();
            throw new IllegalStateException(e);
        });
        try (KoggeNode node = KoggeNode.open(scene.config("log").log(Level.ALL, line -> {
            throw new StackOverflowError("a consumer that fails");
        }))) {
            node.live().await(Scene.LIMIT);
            waitUntil("the next line", () -> { }, () -> thrown.get() > 1);
        }
        waitForNoReader();
        Thread.setDefaultUncaughtExceptionHandler(null);
    }

    void claimAConsumerOfTheLogMayCloseItsNodeOrNeverReturn() throws Exception {
        List<LogLine> lines = new CopyOnWriteArrayList<>();
        AtomicReference<KoggeNode> itself = new AtomicReference<>();
        CountDownLatch opened = new CountDownLatch(1);
        KoggeFuture<KoggeNode> opening = KoggeNode.openAsync(scene.config("log")
                .log(Level.ALL, line -> {
                    try {
                        opened.await();
                        itself.get().close();
                    } catch (KoggeException | InterruptedException e) {
                        lines.add(line);
                    }
                }));
        itself.set(opening.await());
        opened.countDown();
        waitUntil("a closed node", () -> { }, () -> {
            try {
                itself.get().id();
                return false;
            } catch (KoggeException e) {
                return e.status() == KoggeStatus.CLOSED;
            }
        });
        itself.get().close();
        equal(List.of(), lines);
        CountDownLatch end = new CountDownLatch(1);
        try (KoggeNode node = KoggeNode.open(scene.config("log").log(Level.ALL, line -> {
            try {
                end.await();
            } catch (InterruptedException e) {
                lines.add(line);
            }
        }))) {
            node.live().await(Scene.LIMIT);
        }
        end.countDown();
        waitForNoReader();
    }

    private static void waitForNoReader() throws Exception {
        waitUntil("no thread that reads a log", () -> { }, () -> Thread.getAllStackTraces().keySet()
                .stream().noneMatch(it -> it.getName().equals("kogge-log")));
    }
}
