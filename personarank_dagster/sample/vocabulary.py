"""Word lists of the sample data: what people with one taste say, and what a judge says of them.

Each schema has eight latent tastes. The `names`, `traits` and `reasons` of a taste go into personas;
`category`, `purpose`, `quality`, `context`, `dishes` and `evidence` into reviews' aspects: the same meaning
in other words, so that an encoder has to match them by sense. The `hint` of its strongest
taste stands in an item's summary.
All text was written for this project.
"""

from collections.abc import Mapping

from personarank_dagster.core.aspects import SchemaName

Taste = Mapping[str, tuple[str, ...]]

_AMAZON = """
names: Bedroom Producer | Home Recording Perfectionist | Solo Track Layerer
traits: records and mixes songs alone in a small home studio | wants clean takes with a very low noise floor
 | layers vocals and instruments in a digital workstation | listens closely on monitors before keeping a take
reasons: it keeps home recordings clean and quiet | it captures vocals without adding hum to the mix | it
 fits a one-person studio workflow from first take to final mix
hint: clean results
category: demo recording gear for my home studio | microphones and interfaces for tracking vocals | mixing
 and overdub tools
purpose: to put my own songs on tape without paying an engineer | to finish an album in the box | to replace
 a hissy link in my signal chain
quality: no hiss even when I stack ten takes | a transparent sound that sits well in the session | dead
 silent between phrases
context: in a closet padded with blankets, laptop on the desk | weekend sessions bouncing tracks by myself |
 while doing overdubs after work
evidence: my home demos finally sound like records | I soloed the channel and heard nothing but the voice |
 the waveform was spotless
--
names: Weekly Bar Band Player | Road-Tested Gigging Musician | Loud Stage Workhorse
traits: plays live shows with a band in bars and clubs | needs rugged gear that survives the road | has to
 set up fast and strike the stage faster | worries about equipment failing in the middle of a show
reasons: it survives the van, the stage and spilled beer | it sets up in a minute and does not fail in live
 shows | it is rugged enough for a working band
hint: rough handling
category: live stage gear for our band | bar gig rig pieces | rugged things for playing shows
purpose: to have a backup when something dies during the second set | to get through load-in quicker | to
 stop borrowing from our drummer
quality: built like a tank, still works after being dropped | quick to throw together in the dark | takes a
 beating every weekend
context: three sets a night at a crowded pub | hauled in and out of venues all summer | outdoor festival
 slots with no soundcheck
evidence: it fell off the stage and the band kept playing | forty live shows later it is only scratched | no
 hiccup during our bar gig
--
names: Patient First-Year Learner | Absolute Beginner | Self-Taught Late Starter
traits: is just starting to learn an instrument as an adult | wants things that are easy to understand and
 forgiving | follows online lessons and builds habits slowly | does not know the technical terms yet
reasons: it is easy for a newcomer to use without help | it makes the first months of learning less
 frustrating | it comes ready to play and explains itself
hint: a gentle start
category: beginner accessories | a first instrument for a total newbie | starter things for learning to play
purpose: to finally pick up a hobby at fifty | to go along with my video course | to get past my first three
 chords
quality: did not need a manual to figure it out | kind to sore fingertips | simple, nothing to configure
context: ten minutes a day on the couch with a tutorial playing | week two of teaching myself | my instructor
 assigned scales and this helps
evidence: I had no clue what I was doing and it still worked | my teacher approved it for lessons | I learned
 my first song
--
names: Silent Apartment Player | Night-Hours Practiser | Considerate Neighbour
traits: practises at night in an apartment with thin walls | must keep the volume down for family and
 neighbours | plays through headphones most of the time | needs compact gear for a shared flat
reasons: it makes silent late practice possible | it keeps the noise away from the neighbours | it works
 through headphones and takes little room
hint: calm evenings
category: quiet practice gear with headphones | hushed rehearsal accessories for a flat | small apartment
 equipment
purpose: so nobody bangs on the ceiling anymore | to play once the baby is asleep | to keep peace with my
 landlord
quality: barely audible from the hallway | comfortable on the ears for hours | tucks under the bed
context: after eleven in a rented studio with paper walls | roommate sleeping one door away | in my corner
 between the sofa and the wall
evidence: not a single complaint since | my neighbours asked if I had moved out | quiet enough not to wake my
 wife
--
names: Vintage Tone Chaser | Classic Rock Purist | Warm Analog Devotee
traits: chases the warm tone of old tube amplifiers and records | compares every sound with a classic from
 decades ago | loves authentic vintage looks and hand-wired parts | distrusts digital imitations
reasons: it delivers a warm, authentic vintage tone | it responds like classic analog equipment | it has the
 look and feel of a treasured old instrument
hint: a warm character
category: vintage blues tone gear | parts for my sixties tube rig | a retro, old-school valve sound
purpose: to nail that creamy lead from the seventies | to get away from sterile modelers | to restore my
 grandfather's six-string
quality: breaks up sweetly when I dig in | smells and looks like it came from a pawn shop, in a good way |
 round lows, silky highs
context: jamming along to dusty vinyl | slow twelve-bar evenings with an old combo | cranked on a Sunday in
 the garage
evidence: it sounded like a classic record from 1968 | pure mojo | the hair on my arms stood up
--
names: School Band Parent | Careful Gift-Giving Mom or Dad | Young Musician's Sponsor
traits: buys for a child who plays in the school band | wants safe, sturdy things sized for small hands |
 weighs the price because children outgrow everything | hopes to keep a young player motivated
reasons: it suits a child and survives the school bus | it is affordable for a family and keeps a kid
 motivated | it is sized and built for young players
hint: gifts
category: things for my daughter's school band | kid-size instruments | what the children's orchestra teacher
 listed
purpose: a birthday surprise for our ten-year-old | required for my son's fifth-grade ensemble | to encourage
 the little one to keep at it
quality: small fingers can manage it | cheap enough to replace when it gets lost | held up in a backpack
context: carried to elementary rehearsals twice a week | our living room before homework | the winter recital
 in the gym
evidence: my son practises without being asked | she was proud at the recital | grandma was in tears
--
names: Church Sound Volunteer | Sunday Worship Leader | Community Hall Organiser
traits: runs sound for a church or community hall | leads a group of volunteers with mixed skills | needs
 speech and choir to be clear in every pew | answers for a small donated budget
reasons: it makes sermons and choirs clear for the whole congregation | volunteers can run it without
 training | it serves a worship team week after week
hint: large rooms
category: church sound equipment | supplies for our worship team | microphones for the ministry choir
purpose: so the pastor can be heard in the back row | to equip our Sunday service | for the youth group's
 songs
quality: intelligible voice, never a squeal | foolproof for the helpers at the desk | dependable every
 weekend
context: fellowship hall with a high ceiling | mornings with twenty singers and a piano | wired for the
 Easter program
evidence: the whole congregation could hear the sermon | our church volunteers set it up alone | everybody
 sang along
--
names: Travelling Busker | Ultralight Street Performer | Backpacking Songwriter
traits: performs on the street and carries everything by hand | counts every gram and wants battery power |
 travels by train and plane with an instrument | needs small gear for any weather and place
reasons: it is light, portable and runs without an outlet | it packs small for travel and street performance
 | it is ready to play anywhere in a moment
hint: small bags
category: compact travel gear | street performance equipment | portable things for a backpack
purpose: to earn coins on the promenade | to write tunes while hitchhiking | to leave the heavy case at home
quality: weighs next to nothing | lasts a whole day on one charge | shrugs off drizzle
context: subway corners and market squares | hostels along the coast | around a campfire far from any plug
evidence: it came with me through nine countries | passers-by stopped to listen | so light I forgot it in my
 rucksack
"""

_YELP = """
names: Busy Family Organiser | Parent of Picky Eaters | Stroller-Pushing Regular
traits: eats out with small children and needs patience from staff | looks for a kids' menu, high chairs and
 space | wants food to arrive before the children get restless | plans relaxed family meals on weekends
reasons: children are welcome and fed quickly | the family-friendly setting lets parents relax | the menu has
 something for every child
hint: roomy booths and simple plates for small eaters
category: kid-friendly places | family food my boys will eat | easy meals with toddlers
dishes: buttered pasta, crayons and a free scoop of ice cream | mini burgers in small portions | mild chicken
 bites
purpose: to feed the little ones after soccer | a stress-free dinner with our baby | grandparents meeting the
 twins
quality: nobody minded the noise or the mess | food landed in under ten minutes | booster seats were clean
context: Saturday at five with two kids under six | after the school play with cousins | early evening before
 bedtime
evidence: our toddler threw rice and the staff laughed | the kids cleaned their plates | my daughter got
 crayons and a balloon
--
names: Romantic Evening Planner | Anniversary Couple | Candlelight Connoisseur
traits: seeks an intimate setting for a romantic evening | pays more for refined plates and attentive service
 | notices lighting, music and wine pairings | celebrates anniversaries and important dates
reasons: the intimate atmosphere suits couples celebrating together | service and wine make an evening
 special | dim lights and refined plates set a romantic mood
hint: soft lighting and long evenings at the table
category: romantic fine dining | upscale plates for a couple | a tasting menu with wine
dishes: scallops followed by a shared chocolate fondant | a glass of pinot with each course | duck breast,
 done pink
purpose: to propose to my girlfriend | our tenth wedding celebration | to impress someone on a third date
quality: hushed corner, we could hold hands | the sommelier chose perfectly | waiter appeared just when
 needed
context: by the window at nine with a bottle open | dressed up on Valentine's night | lingering over dessert
 for hours
evidence: she said yes before dessert | the most romantic dinner of our marriage | we felt like the only
 couple there
--
names: Fearless Heat Seeker | Authentic Spice Hunter | Regional Flavour Explorer
traits: hunts for fiery, authentic regional cooking | asks for the hottest level and judges the chillies |
 prefers dishes that are not toned down for tourists | explores cuisines of immigrant communities
reasons: the spice level is real and not toned down | the regional cooking tastes authentic and bold | chilli
 lovers get the heat they look for
hint: bold seasoning and recipes from the owner's home region
category: Sichuan, Thai or anything fiery | authentic spicy food | home-style regional kitchens
dishes: mapo tofu that numbed my lips | vindaloo with a side of raw green peppers | the secret off-menu curry
purpose: to sweat through my lunch | to find what my aunt used to make overseas | to test their top level
quality: tears in my eyes, in the best way | nothing watered down for timid palates | peppercorns toasted
 fresh
context: at the counter with cooks shouting behind | a hole in the wall where I was the only foreigner | on a
 freezing day to warm up
evidence: my tongue burned for an hour | the chillies were the real thing | as spicy as at the night market
--
names: Plant-Based Regular | Mindful Healthy Eater | Allergy-Aware Guest
traits: eats vegan and looks for fresh plant-based meals | cares about organic ingredients and clear allergen
 labels | wants light, healthy food that gives energy | asks how vegetables were grown
reasons: vegan dishes are creative and clearly labelled | the kitchen uses fresh, organic produce | it serves
 light and healthy meals with care for allergies
hint: garden produce and clearly marked ingredients
category: vegan bowls and salads | healthy plant food | places that get dairy-free right
dishes: lentil bowl with tahini and kale | jackfruit tacos | cashew cheese flatbread, no gluten
purpose: a clean bite after yoga | to eat without worrying about nuts | to show my carnivore brother it can
 be good
quality: greens tasted picked that morning | I left full but not heavy | the cook knew what was in each sauce
context: post-workout in leggings | with my celiac sister | during my January without animal products
evidence: fresh vegetables, not one sad leaf | they changed the pan for my allergy | I never missed the meat
--
names: Efficient Weekday Luncher | Client Meeting Host | Downtown Professional
traits: has business lunches with clients on weekdays | needs reliable, fast service within an hour | wants a
 quiet table where people can talk | expects easy reservations and separate bills
reasons: business lunches run on time here | the quiet tables suit talks with clients | service is
 professional and quick at midday
hint: weekday menus and punctual service
category: business lunch near the office | smart set menus for a client | quick meals with colleagues
dishes: the midday special with salad and espresso | grilled salmon plate in fifteen minutes | a tidy club
 sandwich
purpose: to close a deal over food | to welcome a new coworker | a break between two meetings
quality: we were back at our desks on time | I could hear my boss without leaning in | receipt came split by
 person
context: Tuesday noon in a suit | with the sales team from headquarters | between conference sessions
evidence: my client signed over lunch | in and out in forty minutes between meetings | my manager asked for
 the address
--
names: Game Night Ringleader | Craft Beer Explorer | Lively Group Regular
traits: meets friends to watch sports over craft beer | enjoys a loud, lively bar with many screens | tries
 every local tap and shares fried snacks | comes in big groups and stays late
reasons: the tap list and screens make game nights fun | groups of friends can be loud and stay late | it
 pairs local craft beer with food for sharing
hint: a long tap list and big shared tables
category: beer and pub food | wings for game day | a brewery with IPAs
dishes: a flight of stouts with pretzels | hot wings by the bucket | nachos piled for six
purpose: to cheer for our team in the playoffs | a birthday round with my buddies | to catch up with college
 pals
quality: a dozen rotating pours, all cold | we could see the score from every seat | no one hushed us
context: Sunday kick-off with eight of us in jerseys | until last call | at the long bench near the dartboard
evidence: the whole bar roared at the goal | the bartender poured us craft samples | my friends and I closed
 the place
--
names: Slow Brunch Lover | Laptop Cafe Dweller | Pastry and Coffee Devotee
traits: spends slow mornings over brunch and specialty coffee | works on a laptop in calm cafes | loves fresh
 pastry and latte art | values sunlight, outlets and free wifi
reasons: the coffee and pastries reward slow mornings | guests can linger and work in a calm setting | it
 serves an excellent brunch in a bright room
hint: morning hours and house-made baked goods
category: a coffee bar with pastries | brunch eggs and pancakes | croissants and espresso
dishes: flat white and an almond twist | ricotta hotcakes with berries | avocado toast with poached eggs
purpose: to answer emails somewhere pleasant | to read my novel for a while | a lazy catch-up with my sister
quality: foam like silk, beans roasted that week | flaky layers, still warm | nobody rushed me out
context: ten in the morning by a sunny sill | with headphones and a charger | Sunday in slippers, almost
evidence: I wrote half my thesis over coffee | crumbs of croissant on my laptop | the barista knew my brunch
 order
--
names: Hungry Student on a Budget | Late-Night Value Hunter | Big Portion Bargainer
traits: wants large portions for little money | eats late at night after class or a shift | takes leftovers
 home for another meal | does not care about decor when food is cheap
reasons: portions are huge and cheap | the kitchen is open late for hungry people on a budget | a few dollars
 buy two full meals
hint: generous plates and late closing times
category: cheap greasy food | all-you-can-eat deals | late-night slices
dishes: a burrito as big as my arm | the five-dollar combo with unlimited rice | a foldable giant slice
purpose: to fill up before payday | to soak it up after the club | to stretch my scholarship money
quality: could not finish half of it | less than I pay for a coffee downtown | free refills and no judgement
context: two in the morning with my dorm mates | standing at a plastic counter | after a double at the
 warehouse
evidence: cheap leftovers for breakfast | I paid with coins and was full | a huge box at two in the morning
"""


def _phrases(text: str) -> tuple[str, ...]:
    return tuple(phrase.strip() for phrase in " ".join(text.split()).split("|"))


def _parse_taste(block: str) -> Taste:
    """Read one taste: `key: phrase | phrase` lines, where a line that starts with a space goes on."""
    lines = block.strip().replace("\n ", " ").splitlines()
    return {key: _phrases(phrases) for key, phrases in (line.split(": ", maxsplit=1) for line in lines)}


TASTES: dict[SchemaName, tuple[Taste, ...]] = {
    "amazon": tuple(_parse_taste(block) for block in _AMAZON.split("--\n")),
    "yelp": tuple(_parse_taste(block) for block in _YELP.split("--\n")),
}

PRODUCTS = _phrases(
    """Microphone Stand | Instrument Cable | Clip-On Tuner | Practice Amplifier | Dynamic Microphone |
    Headphones | Padded Gig Bag | Delay Pedal | String Set | Digital Metronome | USB Mixer | Power Supply
    | Guitar Strap | Keyboard Bench | Drum Pad | Acoustic Guitar | Ukulele | Desk Speaker"""
)
MAKERS = _phrases("Calder | Northfold | Tessaro | Brightwick | Oakmere | Lindqvist | Pellan | Harrow & Finch")
STYLES = _phrases("Folding | Standard | Slim | Studio | Classic | Compact | Deluxe | Everyday | Twin | Pro")
PRODUCT_FEATURES = _phrases(
    """has a metal housing | comes with a spare part | has clearly marked controls | ships in a padded box
    | carries a two-year warranty | is available in black and red | has rubber feet | uses standard
    connectors"""
)

KITCHENS = _phrases(
    """Noodle House | Taqueria | Bistro | Grill | Diner | Tavern | Trattoria | Bakery Cafe | Curry Kitchen
    | Smokehouse | Fish Bar | Pizzeria | Tea Room | Gastropub | Deli | Supper Club"""
)
NAMES = _phrases(
    """The Copper Ladle | Willow & Salt | Second Street | Marigold | The Blue Heron | Juniper | Old
    Harbour | Pepperwood | The Tin Whistle | Saffron Lane | Corner Lantern | Fig Tree | Redbrick | Little
    Orchard"""
)
TOWNS = _phrases("Ashford Falls, OR | Marlow Bay, FL | Pine Hollow, PA | Eastbrook, TN | Cedar Point, AZ")
KITCHEN_FEATURES = _phrases(
    """takes reservations | has street parking | offers takeout | has outdoor seating | accepts credit
    cards | is wheelchair accessible | has a TV | offers delivery"""
)

FILLERS: dict[SchemaName, tuple[str, ...]] = {
    "amazon": _phrases(
        """compares a few options and reads reviews before paying | likes a fair price and prompt delivery |
    already owns several accessories | buys music gear a few times a year"""
    ),
    "yelp": _phrases(
        """tries a new restaurant every month | reads menus and reviews before going out | likes polite staff
    and a fair bill | lives nearby and eats out now and then"""
    ),
}
COMPLAINTS = _phrases("sadly not the case here | which fell short | but I was let down | not what I got")
EXCUSES = _phrases("the price is fair | it was recommended | it is close at hand | nothing speaks against it")
VERDICTS = _phrases("Not for me | Disappointing | It is all right | Very good | Exactly what I hoped for")

# Aspects of a review in file order, and which phrases of a taste express each.
ASPECTS: dict[SchemaName, tuple[str, ...]] = {
    "amazon": _phrases(
        """category_preference_reason | category_preference | purchase_purpose_reason | purchase_purpose |
    quality_criteria_reason | quality_criteria | usage_context_reason | usage_context"""
    ),
    "yelp": _phrases(
        """cuisine_category | cuisine_category_reason | specific_dishes_or_attributes | visit_purpose |
    visit_purpose_reason | quality_criteria | visit_context | visit_context_reason"""
    ),
}
PHRASES_BY_ASPECT = {
    "category_preference": "category",
    "purchase_purpose": "purpose",
    "usage_context": "context",
    "quality_criteria": "quality",
    "cuisine_category": "category",
    "specific_dishes_or_attributes": "dishes",
    "visit_purpose": "purpose",
    "visit_context": "context",
}
