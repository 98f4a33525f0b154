"""What the sandbox says: everyday sentences that fit any emotion, so that words cannot give it away."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

SENTENCES: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "en": (
            "The train leaves the station at half past nine.",
            "There are two chairs next to the kitchen table.",
            "The letter is lying on the desk in the hall.",
            "They are going to paint the door on Thursday.",
            "My neighbour comes home at about six o'clock.",
            "The shop on the corner sells bread and newspapers.",
            "We will talk about it again tomorrow morning.",
            "The bus stops in front of the town library.",
        ),
        "de": (
            "Der Zug fährt um halb zehn vom Bahnhof ab.",
            "Neben dem Küchentisch stehen zwei Stühle.",
            "Der Brief liegt auf dem Schreibtisch im Flur.",
            "Am Donnerstag wird die Tür gestrichen.",
            "Mein Nachbar kommt gegen sechs Uhr nach Hause.",
            "Der Laden an der Ecke verkauft Brot und Zeitungen.",
            "Wir sprechen morgen früh noch einmal darüber.",
            "Der Bus hält vor der Bücherei in der Stadt.",
        ),
        "es": (
            "El tren sale de la estación a las nueve y media.",
            "Hay dos sillas junto a la mesa de la cocina.",
            "La carta está sobre el escritorio del pasillo.",
            "El jueves van a pintar la puerta de la casa.",
            "Mi vecino vuelve a casa a eso de las seis.",
            "La tienda de la esquina vende pan y periódicos.",
            "Hablaremos de eso otra vez mañana por la mañana.",
            "El autobús para delante de la biblioteca.",
        ),
        "fr": (
            "Le train part de la gare à neuf heures et demie.",
            "Il y a deux chaises à côté de la table de cuisine.",
            "La lettre est posée sur le bureau dans le couloir.",
            "Jeudi, on va peindre la porte de la maison.",
            "Mon voisin rentre chez lui vers six heures du soir.",
            "Le magasin du coin vend du pain et des journaux.",
            "Nous en parlerons encore une fois demain matin.",
            "Le bus s'arrête devant la bibliothèque de la ville.",
        ),
    }
)
"""ISO 639-1 code -> sentences of 2 to 4 s at the normal rate."""
