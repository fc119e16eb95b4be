package dev.kogge.test;

import dev.kogge.FetchRequest;
import dev.kogge.KoggeNode;
import java.io.InputStream;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.Arrays;

/**
 * Leaves in the middle of fetches: `exit`, `halt`, `kill`, or by the end of `main`. Then `after` goes on
 * with the same data folder.
 */
final class Leave {
    private Leave() {}

    public static void main(String[] how) throws Exception {
        Scene scene = new Scene();
        Path data = Path.of(how[1], "data");
        Path file = Path.of(how[1], "fetched");
        Scene.Known large = scene.artifact("large");
        FetchRequest request = FetchRequest.of(large.what).file(large.file);
        if (how[0].equals("after")) {
            try (KoggeNode node = scene.node(data.toString())) {
                System.out.println(Files.exists(file) ? "a file that is not whole" : "no file");
                node.fetchTo(request, file).await();
                boolean isSame = Arrays.equals(Files.readAllBytes(file), large.bytes());
                System.out.println(isSame ? "the bytes" : "other bytes");
            }
            return;
        }
        KoggeNode node = scene.slow(data.toString());
        node.fetchTo(request, file).thenRun(() -> System.out.println("fetched after all"));
        InputStream in = node.openStream(request);
        Thread reader = new Thread(() -> {
            try {
                in.readAllBytes();
            } catch (Exception e) {
                System.out.println("the reader noticed: " + e);
            }
        });
        reader.setDaemon(true);
        reader.start();
        while (reader.getStackTrace().length == 0
                || !reader.getStackTrace()[0].getMethodName().equals("streamRead")) {
            Thread.sleep(1);
        }
        System.out.println("leaving by " + how[0]);
        switch (how[0]) {
            case "exit":
                System.exit(0);
                return;
            case "halt":
                Runtime.getRuntime().halt(0);
                return;
            case "kill":
                new ProcessBuilder("kill", "-9", "" + ProcessHandle.current().pid()).start().waitFor();
                return;
            default:
        }
    }
}
