package dev.kogge.maven;

import java.util.ArrayList;
import java.util.Comparator;
import java.util.List;
import java.util.Map;
import javax.inject.Inject;
import javax.inject.Named;
import javax.inject.Provider;
import javax.inject.Singleton;
import org.eclipse.aether.RepositorySystemSession;
import org.eclipse.aether.repository.RemoteRepository;
import org.eclipse.aether.spi.connector.transport.Transporter;
import org.eclipse.aether.spi.connector.transport.TransporterFactory;
import org.eclipse.aether.transfer.NoTransporterException;

/** Stands before the transporter that Maven would have used. */
@Named(KoggeTransporterFactory.NAME)
@Singleton
public final class KoggeTransporterFactory implements TransporterFactory {
    static final String NAME = "kogge";

    /** Before those of Maven, which are below 10. */
    private static final float PRIORITY = 100;

    private final Map<String, Provider<TransporterFactory>> all;
    private final KoggeSource source;

    @Inject
    KoggeTransporterFactory(Map<String, Provider<TransporterFactory>> all, KoggeSource source) {
        this.all = all;
        this.source = source;
    }

    @Override
    public Transporter newInstance(RepositorySystemSession session, RemoteRepository repository)
            throws NoTransporterException {
        if (!source.serves(session, repository)) {
            // Then the next factory is asked, as if this one were not there.
            throw new NoTransporterException(repository);
        }
        List<TransporterFactory> others = new ArrayList<>();
        all.forEach((name, factory) -> {
            if (!NAME.equals(name)) {
                others.add(factory.get());
            }
        });
        others.sort(Comparator.comparingDouble(TransporterFactory::getPriority).reversed());
        for (TransporterFactory other : others) {
            try {
                return new KoggeTransporter(source, other.newInstance(session, repository));
            } catch (NoTransporterException e) {
                // That one is for other protocols.
                continue;
            }
        }
        throw new NoTransporterException(repository);
    }

    @Override
    public float getPriority() {
        return PRIORITY;
    }
}
