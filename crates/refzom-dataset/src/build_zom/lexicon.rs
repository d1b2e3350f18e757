//! Nouns to COCO categories: synonyms, hyponyms ("puppy") and hypernyms ("animal"), singular or plural, up to three words.

use std::collections::HashMap;
use std::sync::LazyLock;

use super::categories::{CATEGORIES, CategorySet};

/// What a noun says about categories.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Meaning {
    /// Categories the noun may name.
    pub categories: CategorySet,
    /// Whether everything the noun names is annotated under them: its absence from the annotations shows that it is not there.
    pub exact: bool,
}

/// A noun found in a text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Found {
    pub(super) meaning: Meaning,
    /// Words it takes.
    pub(super) length: usize,
    pub(super) plural: bool,
}

/// Exact words beyond the category's own name: `(category, words)`.
const EXACT: &[(&str, &str)] = &[
    (
        "person",
        "human,man,woman,boy,girl,child,kid,baby,infant,toddler,guy,dude,fellow,lady,gentleman,gal,teen,teenager,adult,male,\
female,little boy,little girl,player,tennis player,baseball player,soccer player,skier,snowboarder,surfer,skateboarder,skater,batter,\
catcher,pitcher,umpire,referee,goalie,hitter,rider,cyclist,bicyclist,biker,motorcyclist,pedestrian,jockey,chef,cook,baker,waiter,\
waitress,bartender,barista,police officer,policeman,officer,cop,fireman,firefighter,soldier,student,teacher,worker,employee,\
customer,shopper,vendor,farmer,fisherman,driver,passenger,crowd,couple,family,bride,groom,tourist,spectator,athlete,swimmer,golfer,\
runner,walker,hiker,coach,mother,father,mom,mommy,dad,daddy,son,daughter,brother,sister,friend,businessman,businesswoman,cowboy,\
performer,musician,artist,nurse,doctor,dentist,gentlemen,grandmother,grandfather,grandma,grandpa,onlooker,commuter,traveler,\
homeless man,elderly man,elderly woman,folk,member,dweller,bystander",
    ),
    ("bicycle", "bike,tricycle"),
    (
        "car",
        "automobile,sedan,suv,taxi,cab,minivan,station wagon,police car,jeep,convertible,hatchback",
    ),
    ("motorcycle", "motorbike,moped,dirt bike,vespa"),
    (
        "airplane",
        "plane,aeroplane,aircraft,jet,airliner,jetliner,biplane,jumbo jet,fighter jet,seaplane",
    ),
    ("bus", "school bus,tour bus,double decker bus,double decker,minibus,trolley bus"),
    (
        "train",
        "locomotive,passenger train,freight train,subway train,commuter train,steam engine,steam train,train car,train engine",
    ),
    (
        "truck",
        "pickup,pickup truck,fire truck,firetruck,dump truck,semi,tractor trailer,lorry,garbage truck,food truck,tow truck",
    ),
    (
        "boat",
        "ship,sailboat,canoe,kayak,ferry,yacht,rowboat,speedboat,motorboat,gondola,raft,tugboat,barge,vessel,dinghy,cruise ship",
    ),
    ("traffic light", "traffic signal,stoplight,stop light,street light signal"),
    ("fire hydrant", "hydrant"),
    ("stop sign", ""),
    ("parking meter", "meter"),
    ("bench", "park bench,pew"),
    (
        "bird",
        "pigeon,seagull,gull,duck,goose,swan,parrot,owl,eagle,hawk,crow,sparrow,robin,peacock,chicken,rooster,hen,turkey,flamingo,\
pelican,penguin,ostrich,heron,dove,finch,hummingbird,duckling,parakeet,raven,cardinal,egret,crane bird,cockatoo,vulture,stork",
    ),
    ("cat", "kitten,kitty,tabby,tomcat,calico,feline,siamese"),
    (
        "dog",
        "puppy,pup,doggy,doggie,canine,poodle,terrier,labrador,bulldog,dachshund,pug,collie,retriever,golden retriever,german shepherd,\
chihuahua,beagle,hound,lap dog,sheepdog,dalmatian,husky,corgi",
    ),
    ("horse", "pony,stallion,mare,foal,colt,mustang"),
    ("sheep", "lamb,ram,ewe"),
    ("cow", "cattle,bull,calf,ox,oxen,steer,heifer,longhorn,bison,buffalo"),
    ("elephant", "baby elephant"),
    ("bear", "polar bear,grizzly,grizzly bear,black bear,brown bear,panda,panda bear,bear cub"),
    ("zebra", ""),
    ("giraffe", ""),
    ("backpack", "rucksack,knapsack,back pack"),
    ("umbrella", "parasol"),
    ("handbag", "purse,hand bag"),
    ("tie", "necktie,bow tie,bowtie"),
    ("suitcase", "luggage suitcase"),
    ("frisbee", ""),
    ("skis", "ski"),
    ("snowboard", ""),
    (
        "sports ball",
        "soccer ball,tennis ball,baseball ball,basketball ball,volleyball ball,beach ball,rugby ball",
    ),
    ("kite", ""),
    ("baseball bat", ""),
    ("baseball glove", "baseball mitt,catchers mitt,mitt"),
    ("skateboard", "skate board,longboard"),
    ("surfboard", "surf board,bodyboard"),
    ("tennis racket", "tennis racquet,racket,racquet"),
    ("bottle", "wine bottle,beer bottle,water bottle"),
    ("wine glass", "wineglass,goblet"),
    ("cup", "mug,coffee cup,teacup,coffee mug"),
    ("fork", ""),
    ("knife", ""),
    ("spoon", ""),
    ("bowl", ""),
    ("banana", ""),
    ("apple", ""),
    ("sandwich", "burger,hamburger,cheeseburger,panini"),
    ("broccoli", ""),
    ("carrot", ""),
    ("hot dog", "hotdog,chili dog"),
    ("pizza", "pizza pie"),
    ("donut", "doughnut"),
    ("cake", "cupcake,cheesecake,birthday cake,wedding cake,sheet cake,chocolate cake"),
    (
        "chair",
        "armchair,recliner,rocking chair,office chair,lawn chair,high chair,desk chair,beach chair",
    ),
    ("couch", "sofa,loveseat,love seat"),
    ("potted plant", ""),
    ("bed", "bunk bed,hospital bed"),
    ("toilet", "urinal,toilet bowl,commode"),
    ("tv", "television,flat screen tv,television set,tv set,flat screen television"),
    ("laptop", "laptop computer,macbook"),
    ("mouse", "computer mouse"),
    ("remote", "remote control,wii remote,wiimote,game controller"),
    ("keyboard", "computer keyboard"),
    ("cell phone", "cellphone,smartphone,smart phone,iphone,mobile phone"),
    ("microwave", "microwave oven"),
    ("oven", "stove,stove top,stovetop"),
    ("toaster", ""),
    ("sink", "bathroom sink,kitchen sink,double sink,wash basin,washbasin"),
    ("refrigerator", "fridge,refrigerator freezer"),
    ("clock", "wall clock,alarm clock,clock tower clock"),
    ("vase", ""),
    ("scissors", "pair of scissors,scissor"),
    ("teddy bear", "teddy,stuffed bear,stuffed animal bear"),
    ("hair drier", "hair dryer,hairdryer,blow dryer"),
    ("toothbrush", "tooth brush"),
];

/// Loose words: `(words, categories)`.
const LOOSE: &[(&str, &str)] = &[
    (
        "animal,pet,creature,wildlife,herd,flock,pack",
        "bird,cat,dog,horse,sheep,cow,elephant,bear,zebra,giraffe",
    ),
    ("livestock,goat,donkey,mule", "sheep,cow,horse"),
    ("vehicle,traffic", "bicycle,car,motorcycle,airplane,bus,train,truck,boat"),
    ("van,trailer,wagon,ambulance,tractor,camper,rv,ute", "car,truck,bus"),
    ("scooter", "motorcycle,bicycle,skateboard"),
    ("trolley,tram,trolly,streetcar,monorail,subway,railcar,engine", "train,bus"),
    ("carriage,buggy", "train,horse"),
    ("light,signal,street light", "traffic light"),
    ("sign,street sign,road sign,signs", "stop sign"),
    ("seat", "chair,couch,bench,toilet,bed"),
    ("stool,ottoman,futon", "chair,couch,bed"),
    (
        "table,desk,counter,countertop,dining table,coffee table,dinner table,picnic table,kitchen table,table top,tabletop",
        "dining table",
    ),
    ("furniture", "chair,couch,bed,dining table,bench"),
    ("bag,luggage,tote,duffel,baggage,satchel,pouch", "handbag,backpack,suitcase"),
    ("case,briefcase", "suitcase,handbag"),
    ("ball,baseball,basketball,football,volleyball,soccer,tennis", "sports ball"),
    ("disc,disk", "frisbee"),
    ("bat", "baseball bat"),
    ("glove", "baseball glove"),
    ("board", "skateboard,surfboard,snowboard"),
    ("glass", "wine glass,cup"),
    ("wine,beer,drink,beverage,coffee,tea,juice,soda,water", "wine glass,cup,bottle"),
    ("container,jar,pitcher,jug,pot,can,flask,dish", "cup,bottle,bowl,vase"),
    ("utensil,cutlery,silverware,flatware,tableware", "fork,knife,spoon"),
    ("blade,cutter,sword,dagger", "knife,scissors"),
    (
        "food,meal,dish,snack,lunch,dinner,breakfast,dessert,pastry,bun,bread,toast,treat",
        "banana,apple,sandwich,orange,broccoli,carrot,hot dog,pizza,donut,cake",
    ),
    ("fruit,orange,tangerine,lemon,citrus", "banana,apple,orange"),
    ("vegetable,veggie,salad,produce,greens", "broccoli,carrot"),
    ("sub,wrap,sausage,bagel,pie,slice,flatbread", "sandwich,hot dog,pizza,donut,cake"),
    (
        "plant,flower,tree,houseplant,bush,fern,bouquet,planter,flower pot,shrub",
        "potted plant,vase",
    ),
    ("pillow,mattress,blanket,sheet,bedroom", "bed"),
    (
        "screen,monitor,computer,desktop,display,computer monitor,computer screen,desktop computer,pc",
        "tv,laptop,cell phone,keyboard",
    ),
    ("tablet,device,gadget,electronics", "laptop,cell phone,remote,tv"),
    ("phone,telephone,mobile,camera", "cell phone"),
    ("controller,wii,nintendo wii,game", "remote,tv"),
    ("appliance,freezer,cooker,range", "oven,microwave,toaster,refrigerator"),
    ("basin,faucet,tub,bathtub,vanity", "sink"),
    ("watch,time,tower,clock tower", "clock"),
    ("novel,magazine,notebook,textbook,paper,menu,bookshelf,book", "book"),
    ("toy,doll,stuffed animal,plush,stuffed toy", "teddy bear,sports ball"),
    ("brush", "toothbrush,hair drier"),
    ("dryer,blower", "hair drier"),
    (
        "pair,group,bunch,team,pair of people,other,someone,somebody,everyone,anyone,figure,hand,arm,leg,face,head,hair,finger,foot,body,\
shirt,hat,jacket,pants,jeans,dress,coat,shoe,uniform,helmet,suit,cap,shorts,skirt,sweater,hoodie,glasses,sunglasses,boot,sock,vest",
        "person",
    ),
    ("suit,collar", "tie"),
    ("ski pole,skiing,ski slope", "skis"),
    ("skateboarding", "skateboard,person"),
    ("surfing", "surfboard,person"),
    ("snowboarding", "snowboard,person"),
    ("bathroom,restroom,washroom,toilet paper,lavatory,stall", "toilet,sink"),
    ("kitchen", "oven,refrigerator,sink,microwave"),
    ("beak,wing,feather", "bird"),
    ("trunk,tusk", "elephant"),
    ("paw,tail,fur", "cat,dog,bear"),
    ("rail,railroad,train track,track", "train"),
    ("runway,airport", "airplane"),
    ("meter", "parking meter"),
];

/// Words that end in `s` but are singular or have no other singular.
const IRREGULAR: &[(&str, &str)] = &[
    ("people", "person"),
    ("persons", "person"),
    ("men", "man"),
    ("women", "woman"),
    ("children", "child"),
    ("gentlemen", "gentleman"),
    ("policemen", "policeman"),
    ("firemen", "fireman"),
    ("fishermen", "fisherman"),
    ("businessmen", "businessman"),
    ("knives", "knife"),
    ("mice", "mouse"),
    ("geese", "goose"),
    ("calves", "calf"),
    ("feet", "foot"),
    ("loaves", "loaf"),
    ("buses", "bus"),
    ("busses", "bus"),
    ("buss", "bus"),
    ("ladies", "lady"),
    ("cookies", "cookie"),
    ("hoodies", "hoodie"),
    ("veggies", "veggie"),
    ("doggies", "doggie"),
    ("oxen", "ox"),
    ("taxis", "taxi"),
    ("bowties", "bowtie"),
    ("neckties", "necktie"),
    ("buffaloes", "buffalo"),
    ("wolves", "wolf"),
    ("leaves", "leaf"),
    ("shelves", "shelf"),
];

/// Words of the same form in singular and plural.
const UNCHANGED: &[&str] = &[
    "sheep",
    "skis",
    "scissors",
    "cattle",
    "aircraft",
    "broccoli",
    "luggage",
    "bison",
    "buffalo",
    "furniture",
];

/// The singular of a lower-case English noun, by rule; a word that is no plural comes back as it is.
pub(super) fn singular(word: &str) -> String {
    if let Some((_, one)) = IRREGULAR.iter().find(|(many, _)| *many == word) {
        return (*one).to_owned();
    }
    if UNCHANGED.contains(&word) || word.len() < 3 {
        return word.to_owned();
    }
    if let Some(stem) = word.strip_suffix("ies").filter(|stem| stem.len() > 2) {
        return format!("{stem}y"); // but ties and pies are tie and pie
    }
    let ends = |ends: &[&str]| ends.iter().any(|end| word.ends_with(end));
    if ends(&["sses", "xes", "zzes", "ches", "shes"]) {
        return word[..word.len() - 2].to_owned();
    }
    match word.strip_suffix('s') {
        Some(stem) if !["s", "u", "i"].iter().any(|end| stem.ends_with(end)) => stem.to_owned(),
        _ => word.to_owned(),
    }
}

static LEXICON: LazyLock<HashMap<&'static str, Meaning>> = LazyLock::new(|| {
    let mut table = HashMap::new();
    for (words, categories) in LOOSE {
        let names: Vec<&str> = categories.split(',').collect();
        let categories = CategorySet::named(&names);
        for word in words.split(',') {
            let meaning = table
                .entry(word)
                .or_insert(Meaning { categories: CategorySet::EMPTY, exact: false });
            meaning.categories |= categories;
        }
    }
    let unsure = ["dining table", "book", "orange"]; // COCO annotates only some of them
    for category in CATEGORIES.iter().filter(|c| !unsure.contains(&c.name)) {
        let meaning = Meaning { categories: CategorySet::named(&[category.name]), exact: true };
        table.insert(category.name, meaning);
    }
    for (name, words) in EXACT {
        let categories = CategorySet::named(&[name]);
        for word in words.split(',').filter(|word| !word.is_empty()) {
            // A word listed for two kinds of thing stays loose: it may name either.
            let meaning = table.entry(word).or_insert(Meaning { categories, exact: true });
            if meaning.exact || meaning.categories.meets(categories) {
                meaning.categories |= categories;
            } else {
                *meaning = Meaning { categories: meaning.categories | categories, exact: false };
            }
        }
    }
    table
});

/// What one noun, singular or plural, of one to three words, says about categories.
pub fn meaning_of(noun: &str) -> Option<Meaning> {
    let words: Vec<&str> = noun.split_whitespace().collect();
    let found = longest(&words)?;
    (found.length == words.len()).then_some(found.meaning)
}

/// The longest noun that `words` (lower case) begins with.
pub(super) fn longest(words: &[&str]) -> Option<Found> {
    let joined = |length: usize, last: &str| {
        let mut text = words[..length - 1].join(" ");
        if length > 1 {
            text.push(' ');
        }
        text + last
    };
    for length in (1..=words.len().min(3)).rev() {
        let last = words[length - 1];
        let found = |meaning: &Meaning, plural| Found { meaning: *meaning, length, plural };
        if let Some(meaning) = LEXICON.get(joined(length, last).as_str()) {
            return Some(found(meaning, last == "cattle" || last == "skis"));
        }
        let one = singular(last);
        if one != last
            && let Some(meaning) = LEXICON.get(joined(length, &one).as_str())
        {
            return Some(found(meaning, true));
        }
    }
    None
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn check(noun: &str, categories: &[&str], exact: bool) {
        let meaning = meaning_of(noun).unwrap_or_else(|| panic!("{noun}"));
        assert_eq!(
            meaning.categories,
            CategorySet::named(categories),
            "{noun}: {}",
            meaning.categories
        );
        assert_eq!(meaning.exact, exact, "{noun}");
    }

    #[test]
    fn tables_name_categories_of_coco() {
        use super::super::categories::index_of;
        for (name, _) in EXACT {
            assert!(index_of(name).is_some(), "{name}");
        }
        for (_, names) in LOOSE {
            names.split(',').for_each(|name| assert!(index_of(name).is_some(), "{name}"));
        }
    }

    #[test]
    fn every_category_is_found_by_name_and_plural() {
        for category in &CATEGORIES {
            for noun in [category.name, category.singular, category.plural] {
                let noun = noun.to_lowercase();
                let noun = noun.trim_start_matches("pair of ").trim_start_matches("pairs of ");
                let noun = noun.trim_start_matches("piece of ").trim_start_matches("pieces of ");
                let meaning = meaning_of(noun).unwrap_or_else(|| panic!("{noun}"));
                assert!(meaning.categories.meets(CategorySet::named(&[category.name])), "{noun}");
            }
        }
    }

    #[test]
    fn synonyms_plurals_and_hypernyms() {
        check("puppies", &["dog"], true);
        check("women", &["person"], true);
        check("sofas", &["couch"], true);
        check("buses", &["bus"], true);
        check("wine glasses", &["wine glass"], true);
        check("hot dogs", &["hot dog"], true);
        check("benches", &["bench"], true);
        check("horses", &["horse"], true);
        check("vases", &["vase"], true);
        check("suitcases", &["suitcase"], true);
        check("sign", &["stop sign"], false);
        check("van", &["car", "bus", "truck"], false);
        check("dining table", &["dining table"], false);
        assert!(!meaning_of("animals").unwrap().exact && !meaning_of("oranges").unwrap().exact);
        assert!(meaning_of("tablecloth").is_none() && meaning_of("dog house").is_none());
    }

    #[test]
    fn the_longest_noun_wins() {
        assert_eq!(longest(&["hot", "dog", "stand"]).unwrap().length, 2);
        assert_eq!(longest(&["dog", "house"]).unwrap().meaning, meaning_of("dog").unwrap());
        assert!(longest(&["the", "dog"]).is_none() && longest(&[]).is_none());
    }
}
