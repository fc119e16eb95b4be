package dev.kogge.test;

import dev.kogge.FetchRequest;
import dev.kogge.KoggeNode;
import java.io.InputStream;
import java.nio.file.Path;

/** Leaves in the middle of fetches: `exit`, `halt`, or by the end of `main`. */
final class Leave {
    private Leave() {}

    public static void main(String[] how) throws Exception {
        Scene scene = new Scene();
        KoggeNode node = scene.slow("leave");
        Scene.Known large = scene.artifact("large");
        FetchRequest request = FetchRequest.of(large.what).file(large.file);
        Path file = scene.folder.resolve("never");
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
            default:
        }
    }
}
